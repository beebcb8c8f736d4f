// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

// The part of JSON that a model's metadata needs: the members of the outermost object as text.
// Throws std::runtime_error where the text is no JSON object.
std::map<std::string, std::string> ObjectMembers(std::string_view json);

// The numbers of "[1, 2.5]"; empty for "null".
std::vector<float> Numbers(const std::string& json);
