// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "bev_box.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace rulebook::cpu {
namespace {

struct Point {
  double x;
  double y;
};

// A cut adds one corner to a convex polygon. Rounding can leave corners on an edge out of line by
// an ulp, where a cut along that edge may cross it several times: never more than doubling every
// other corner, so 4 corners become at most 6, 9, 13 and 19.
struct Polygon {
  std::array<Point, 19> corner;
  size_t corners = 0;

  void Add(const Point& p) { corner[corners++] = p; }
};

// The part of a convex polygon where sign * (x or y) <= limit (Sutherland and Hodgman, 1974).
Polygon Cut(const Polygon& polygon, double Point::* axis, double sign, double limit) {
  Polygon cut;
  for (size_t i = 0; i < polygon.corners; ++i) {
    const Point& a = polygon.corner[i];
    const Point& b = polygon.corner[i + 1 == polygon.corners ? 0 : i + 1];
    const double beyond_a = sign * a.*axis - limit;
    const double beyond_b = sign * b.*axis - limit;
    if (beyond_a <= 0.0) cut.Add(a);
    if ((beyond_a < 0.0 && beyond_b > 0.0) || (beyond_a > 0.0 && beyond_b < 0.0)) {
      const double along = beyond_a / (beyond_a - beyond_b);
      cut.Add({a.x + along * (b.x - a.x), a.y + along * (b.y - a.y)});
    }
  }
  return cut;
}

double Area(const Polygon& polygon) {
  double twice = 0.0;
  for (size_t i = 0; i < polygon.corners; ++i) {
    const Point& a = polygon.corner[i];
    const Point& b = polygon.corner[i + 1 == polygon.corners ? 0 : i + 1];
    twice += a.x * b.y - a.y * b.x;
  }
  return std::fabs(twice) / 2.0;
}

// b's corners in the frame in which a is centred and its sides lie along the axes.
Polygon CornersSeenFrom(const BevBox& a, const BevBox& b) {
  const double offset_x = b.x - a.x;
  const double offset_y = b.y - a.y;
  const double x = a.cos_yaw * offset_x + a.sin_yaw * offset_y;
  const double y = a.cos_yaw * offset_y - a.sin_yaw * offset_x;
  const double cos = a.cos_yaw * b.cos_yaw + a.sin_yaw * b.sin_yaw;
  const double sin = a.cos_yaw * b.sin_yaw - a.sin_yaw * b.cos_yaw;
  constexpr std::array<Point, 4> kUnit{{{1, 1}, {-1, 1}, {-1, -1}, {1, -1}}};
  Polygon polygon;
  for (const Point& unit : kUnit) {
    const double u = unit.x * b.half_dx;
    const double v = unit.y * b.half_dy;
    polygon.Add({x + cos * u - sin * v, y + sin * u + cos * v});
  }
  return polygon;
}

}  // namespace

BevBox MakeBevBox(const float* box) {
  const double dx = box[3];
  const double dy = box[4];
  const double yaw = box[6];
  return {double{box[0]},
          double{box[1]},
          dx / 2.0,
          dy / 2.0,
          std::cos(yaw),
          std::sin(yaw),
          dx > 0.0 && dy > 0.0 ? dx * dy : 0.0,
          std::hypot(dx, dy) / 2.0};
}

double BevIou(const BevBox& a, const BevBox& b) {
  if (!(a.area > 0.0 && b.area > 0.0)) return 0.0;
  const double dx = a.x - b.x;
  const double dy = a.y - b.y;
  const double reach = a.radius + b.radius;
  if (dx * dx + dy * dy >= reach * reach) return 0.0;
  Polygon polygon = CornersSeenFrom(a, b);
  polygon = Cut(polygon, &Point::x, 1.0, a.half_dx);
  polygon = Cut(polygon, &Point::x, -1.0, a.half_dx);
  polygon = Cut(polygon, &Point::y, 1.0, a.half_dy);
  polygon = Cut(polygon, &Point::y, -1.0, a.half_dy);
  const double overlap = std::min(Area(polygon), std::min(a.area, b.area));
  return overlap / (a.area + b.area - overlap);
}

}  // namespace rulebook::cpu
