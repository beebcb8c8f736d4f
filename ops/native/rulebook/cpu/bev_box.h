// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Boxes seen from above. Both devices run this code: the same float64 operations in the same order.
// Only sine, cosine and the radius come from the device's own library, which may round their last
// bit or two differently: an IoU then differs by some 1e-15, more for boxes long and thin.
#pragma once

#include <cmath>
#include <cstddef>

#if defined(__CUDACC__)
#define VOXGATE_HOST_DEVICE __host__ __device__
#else
#define VOXGATE_HOST_DEVICE
#endif

namespace rulebook::cpu {

// A box seen from above, in float64.
struct BevBox {
  double x;
  double y;
  double half_dx;
  double half_dy;
  double cos_yaw;
  double sin_yaw;
  double area;    // 0 when a side is not above 0
  double radius;  // of the circle around it
};

// box: (x, y, z, dx, dy, dz, yaw).
VOXGATE_HOST_DEVICE inline BevBox MakeBevBox(const float* box) {
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

namespace internal {

struct Point {
  double x;
  double y;
};

// A cut adds one corner to a convex polygon. Rounding can leave corners on an edge out of line by
// an ulp, where a cut along that edge may cross it several times: never more than doubling every
// other corner, so 4 corners become at most 6, 9, 13 and 19.
struct Polygon {
  Point corner[19];
  int corners;

  VOXGATE_HOST_DEVICE void Add(double x, double y) { corner[corners++] = {x, y}; }
};

// The part of a convex polygon where sign * (x or y) <= limit (Sutherland and Hodgman, 1974).
template <double Point::* kAxis>
VOXGATE_HOST_DEVICE inline void Cut(const Polygon& polygon, double sign, double limit,
                                    Polygon* cut) {
  cut->corners = 0;
  for (int i = 0; i < polygon.corners; ++i) {
    const Point a = polygon.corner[i];
    const Point b = polygon.corner[i + 1 == polygon.corners ? 0 : i + 1];
    const double beyond_a = sign * a.*kAxis - limit;
    const double beyond_b = sign * b.*kAxis - limit;
    if (beyond_a <= 0.0) cut->Add(a.x, a.y);
    if ((beyond_a < 0.0 && beyond_b > 0.0) || (beyond_a > 0.0 && beyond_b < 0.0)) {
      const double along = beyond_a / (beyond_a - beyond_b);
      cut->Add(a.x + along * (b.x - a.x), a.y + along * (b.y - a.y));
    }
  }
}

VOXGATE_HOST_DEVICE inline double Area(const Polygon& polygon) {
  double twice = 0.0;
  for (int i = 0; i < polygon.corners; ++i) {
    const Point& a = polygon.corner[i];
    const Point& b = polygon.corner[i + 1 == polygon.corners ? 0 : i + 1];
    twice += a.x * b.y - a.y * b.x;
  }
  return std::fabs(twice) / 2.0;
}

// b's corners in the frame in which a is centred and its sides lie along the axes.
VOXGATE_HOST_DEVICE inline void CornersSeenFrom(const BevBox& a, const BevBox& b,
                                                Polygon* polygon) {
  const double offset_x = b.x - a.x;
  const double offset_y = b.y - a.y;
  const double x = a.cos_yaw * offset_x + a.sin_yaw * offset_y;
  const double y = a.cos_yaw * offset_y - a.sin_yaw * offset_x;
  const double cos = a.cos_yaw * b.cos_yaw + a.sin_yaw * b.sin_yaw;
  const double sin = a.cos_yaw * b.sin_yaw - a.sin_yaw * b.cos_yaw;
  polygon->corners = 0;
  for (int corner = 0; corner < 4; ++corner) {
    const double u = corner == 0 || corner == 3 ? b.half_dx : -b.half_dx;
    const double v = corner < 2 ? b.half_dy : -b.half_dy;
    polygon->Add(x + cos * u - sin * v, y + sin * u + cos * v);
  }
}

}  // namespace internal

// Intersection over union, in [0, 1]; 0 when either has no area.
VOXGATE_HOST_DEVICE inline double BevIou(const BevBox& a, const BevBox& b) {
  using internal::Point;
  if (!(a.area > 0.0 && b.area > 0.0)) return 0.0;
  const double dx = a.x - b.x;
  const double dy = a.y - b.y;
  const double reach = a.radius + b.radius;
  if (dx * dx + dy * dy >= reach * reach) return 0.0;
  internal::Polygon polygon;
  internal::Polygon cut;
  internal::CornersSeenFrom(a, b, &polygon);
  internal::Cut<&Point::x>(polygon, 1.0, a.half_dx, &cut);
  internal::Cut<&Point::x>(cut, -1.0, a.half_dx, &polygon);
  internal::Cut<&Point::y>(polygon, 1.0, a.half_dy, &cut);
  internal::Cut<&Point::y>(cut, -1.0, a.half_dy, &polygon);
  const double smaller = b.area < a.area ? b.area : a.area;
  const double area = internal::Area(polygon);
  const double overlap = smaller < area ? smaller : area;
  return overlap / (a.area + b.area - overlap);
}

}  // namespace rulebook::cpu
