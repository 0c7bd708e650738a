#include "client/line_chart.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "client/html.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr double kWidth = 720, kHeight = 300;
constexpr double kLeft = 70, kRight = 710, kTop = 34, kBottom = 260;
constexpr std::string_view kColors[] = {"#2f6fb3", "#d1495b", "#4f8f4f", "#8a63a8"};

// An axis from pixels `from` to pixels `to`.
struct Axis {
  double low = 0, high = 1;  // of values, or of their logarithms
  double from = 0, to = 0;

  double Pixel(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

// The value as the axis has it; nothing where it cannot be drawn.
std::optional<double> Placed(double value, bool logarithmic) {
  if (!std::isfinite(value) || (logarithmic && value <= 0)) return std::nullopt;
  return logarithmic ? std::log10(value) : value;
}

// A step of 1, 2 or 5 times a power of ten that divides `range` into about five.
double NiceStep(double range) {
  const double power = std::pow(10, std::floor(std::log10(range / 5)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (range / (factor * power) <= 6) return factor * power;
  }
  return 10 * power;
}

std::optional<Axis> ValueAxis(const Chart& chart) {
  std::optional<std::pair<double, double>> range;
  for (const ChartLine& line : chart.lines) {
    for (const double value : line.values) {
      const std::optional<double> placed = Placed(value, chart.logarithmic);
      if (!placed) continue;
      if (!range) range = {*placed, *placed};
      range = {std::min(range->first, *placed), std::max(range->second, *placed)};
    }
  }
  if (!range) return std::nullopt;
  auto [low, high] = *range;
  if (high - low < 1e-12 * std::max(1.0, std::fabs(high))) low -= 1, high += 1;
  const double step = chart.logarithmic ? 1 : NiceStep(high - low);
  return Axis{std::floor(low / step) * step, std::ceil(high / step) * step, kBottom, kTop};
}

std::string Rule(const Axis& axis, double at, bool logarithmic) {
  const double y = axis.Pixel(at);
  const double value = logarithmic ? std::pow(10, at) : at;
  return fmt::format(
      "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
      "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>\n",
      kLeft, kRight, y, y, kLeft - 6, y + 4, std::fabs(value) < 1e-12 ? 0.0 : value);
}

std::string Rules(const Axis& axis, bool logarithmic) {
  const double step = logarithmic ? std::max(1.0, std::ceil((axis.high - axis.low) / 8))
                                  : NiceStep(axis.high - axis.low);
  std::string rules;
  for (int i = 0; axis.low + i * step <= axis.high + step / 1000; ++i) {
    rules += Rule(axis, axis.low + i * step, logarithmic);
  }
  return rules;
}

std::string Places(const Chart& chart, const Axis& axis) {
  const size_t every = std::max<size_t>(1, (chart.places.size() + 15) / 16);
  std::string marks;
  for (size_t i = 0; i < chart.places.size(); i += every) {
    marks += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.4g}</text>\n",
                         axis.Pixel(chart.places[i]), kBottom + 16, chart.places[i]);
  }
  return marks + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                             (kLeft + kRight) / 2, kBottom + 34, EscapedHtml(chart.x_name));
}

std::string Line(const Chart& chart, size_t index, const Axis& x, const Axis& y) {
  const ChartLine& line = chart.lines[index];
  const std::string_view color = kColors[index % std::size(kColors)];
  std::string path, points;
  for (size_t i = 0; i < std::min(chart.places.size(), line.values.size()); ++i) {
    const std::optional<double> placed = Placed(line.values[i], chart.logarithmic);
    if (!placed) continue;
    const double at = x.Pixel(chart.places[i]), height = y.Pixel(*placed);
    path += fmt::format("{}{:.1f},{:.1f} ", path.empty() ? "" : "L", at, height);
    points += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}, {} {:.6g}: "
        "{:.6g}</title></circle>\n",
        at, height, color, EscapedHtml(line.name), EscapedHtml(chart.x_name), chart.places[i],
        line.values[i]);
  }
  if (path.empty()) return {};
  return fmt::format(
      "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n{}"
      "<text x=\"{}\" y=\"18\" style=\"fill:{}\">{}</text>\n",
      path, color, points, kLeft + 165.0 * static_cast<double>(index), color,
      EscapedHtml(line.name));
}

}  // namespace

std::string LineChart(const Chart& chart) {
  const std::optional<Axis> values = ValueAxis(chart);
  if (!values || chart.places.empty()) return {};
  const double last = chart.places.back();
  const Axis places{chart.places.front(), std::max(last, chart.places.front() + 1), kLeft + 10,
                    kRight - 10};
  std::string svg = fmt::format(
      "<h3>{}</h3>\n<svg viewBox=\"0 0 {} {}\" role=\"img\">\n<title>{}"
      "</title>\n",
      EscapedHtml(chart.title), kWidth, kHeight, EscapedHtml(chart.title));
  svg += Rules(*values, chart.logarithmic) + Places(chart, places);
  for (size_t i = 0; i < chart.lines.size(); ++i) svg += Line(chart, i, places, *values);
  return svg + "</svg>\n";
}

}  // namespace linchpin
