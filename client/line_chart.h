// A drawing of lines over a common axis, as SVG inside an HTML page.
#pragma once

#include <string>
#include <vector>

namespace linchpin {

struct ChartLine {
  std::string name;
  std::vector<double> values;  // one for each of the chart's places; what is not finite is left out
};

struct Chart {
  std::string title;
  std::string x_name;
  std::vector<double> places;  // ascending
  std::vector<ChartLine> lines;
  // Decades instead of equal steps; values that are not above zero are left out.
  bool logarithmic = false;
};

// Every point says its values where a pointer rests on it.  Empty if no line has
// a value that can be drawn.
std::string LineChart(const Chart& chart);

}  // namespace linchpin
