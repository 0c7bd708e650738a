#include "client/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linchpin {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(EscapedHtml, LeavesNothingThatIsMarkup) {
  EXPECT_EQ(EscapedHtml("<a href=\"x\" id='y'>&</a>"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;&lt;/a&gt;");
  EXPECT_EQ(EscapedHtml("größer"), "größer");
}

TEST(HtmlElement, EscapesItsText) { EXPECT_EQ(HtmlElement("p", "a < b"), "<p>a &lt; b</p>"); }

TEST(HtmlTable, HasARowForEachAndNothingForNone) {
  EXPECT_EQ(HtmlTable({"name", "n"}, {}), "");
  EXPECT_EQ(HtmlTable({"name", "n"}, {{"<x>", "1"}, {"y", "2"}}),
            "<table>\n<thead><tr><th>name</th><th>n</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>&lt;x&gt;</td><td>1</td></tr>\n<tr><td>y</td><td>2</td></tr>\n"
            "</tbody>\n</table>\n");
}

TEST(HtmlPage, StandsAlone) {
  const std::string page = HtmlPage("A & B", "<p>body</p>");
  EXPECT_THAT(page, HasSubstr("<title>A &amp; B</title>"));
  EXPECT_THAT(page, HasSubstr("<p>body</p>"));
  EXPECT_THAT(page, Not(HasSubstr("http")));  // it loads nothing
  EXPECT_THAT(page, Not(HasSubstr("<script")));
}

}  // namespace
}  // namespace linchpin
