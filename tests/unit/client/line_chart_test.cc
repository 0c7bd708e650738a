#include "client/line_chart.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linchpin {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

size_t Count(const std::string& text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

Chart TwoLines() {
  return {.title = "sizes",
          .x_name = "layer",
          .places = {0, 1, 2},
          .lines = {{"with", {1, 10, 100}}, {"without", {1, 2, 3}}}};
}

TEST(LineChart, HasAPointForEveryValueAndSaysIt) {
  const std::string svg = LineChart(TwoLines());
  EXPECT_EQ(Count(svg, "<circle"), 6U);
  EXPECT_EQ(Count(svg, "<path"), 2U);
  EXPECT_THAT(svg, HasSubstr("<title>with, layer 1: 10</title>"));
  EXPECT_THAT(svg, HasSubstr("<h3>sizes</h3>"));
}

TEST(LineChart, LeavesOutWhatCannotBeDrawn) {
  Chart chart = TwoLines();
  chart.lines[1].values = {kNan, std::numeric_limits<double>::infinity(), kNan};
  EXPECT_EQ(Count(LineChart(chart), "<circle"), 3U);
  chart.lines[0].values = {kNan, kNan, kNan};
  EXPECT_EQ(LineChart(chart), "");
  chart.places.clear();
  EXPECT_EQ(LineChart(chart), "");
}

TEST(LineChart, DrawsDecadesEquallyFarApart) {
  Chart chart = TwoLines();
  chart.logarithmic = true;
  chart.lines = {{"a", {1, 10, 100}}};
  const std::string svg = LineChart(chart);
  // From the bottom at 1 to the top at 100.
  EXPECT_THAT(svg, HasSubstr("cy=\"260.0\""));
  EXPECT_THAT(svg, HasSubstr("cy=\"147.0\""));
  EXPECT_THAT(svg, HasSubstr("cy=\"34.0\""));
  chart.lines = {{"a", {0, -1, 100}}};
  EXPECT_EQ(Count(LineChart(chart), "<circle"), 1U);
}

TEST(LineChart, DrawsALevelLineAndASinglePlace) {
  Chart chart = TwoLines();
  chart.lines = {{"a", {5, 5, 5}}};
  EXPECT_EQ(Count(LineChart(chart), "<circle"), 3U);
  EXPECT_THAT(LineChart(chart), Not(HasSubstr("nan")));
  chart.places = {7};
  EXPECT_EQ(Count(LineChart(chart), "<circle"), 1U);
  EXPECT_THAT(LineChart(chart), Not(HasSubstr("nan")));
}

TEST(LineChart, StaysInsideItsFrame) {
  for (const double most : {0.0003, 0.7, 1.0, 999.0, 24926.2, 1e12}) {
    Chart chart = TwoLines();
    chart.lines = {{"a", {-most, 0, most}}};
    const std::string svg = LineChart(chart);
    for (size_t at = svg.find("cy=\""); at != std::string::npos; at = svg.find("cy=\"", at + 1)) {
      const double y = std::stod(svg.substr(at + 4));
      EXPECT_GE(y, 34) << most;
      EXPECT_LE(y, 260) << most;
    }
    EXPECT_LE(Count(svg, "class=\"grid\""), 12U) << most;
    EXPECT_GE(Count(svg, "class=\"grid\""), 3U) << most;
  }
}

TEST(LineChart, EscapesNames) {
  Chart chart = TwoLines();
  chart.title = chart.x_name = chart.lines[0].name = "<script>";
  EXPECT_THAT(LineChart(chart), Not(HasSubstr("<script>")));
}

}  // namespace
}  // namespace linchpin
