#include "pipeline/built_in_text.h"

namespace linchpin {

std::string_view NeutralText() {
  return "The town lies where two small rivers meet. In spring, when the snow on the hills begins "
         "to melt, the water rises slowly until it reaches the lowest steps of the old stone "
         "bridge, and children come after school to see how far it has come since the day before. "
         "Most of the houses along the bank were built more than a hundred years ago by people "
         "who made cloth, paper and glass, and who needed the river to turn their wheels. Today "
         "the mills are quiet. One of them is a library, another holds a museum, and the largest "
         "has been divided into rooms for families. On Saturday mornings farmers bring apples, "
         "bread, cheese and flowers to the market square, and they stay until the church bell "
         "rings at noon. A train leaves for the city every hour; the journey takes forty minutes, "
         "and from the window you can see fields, a lake and, if the weather is clear, the "
         "mountains in the north. Many people who work in the city prefer to live here, because "
         "the air is clean and the nights are quiet. They say that the best time of the year is "
         "the beginning of October, when the trees change their colour and the evenings are still "
         "warm enough to sit outside with friends and talk about nothing in particular.";
}

std::string_view CodeText() {
  return "def mean(values):\n"
         "    total = 0\n"
         "    for value in values:\n"
         "        total += value\n"
         "    return total / len(values)\n"
         "\n"
         "print(mean([3, 1, 4, 1, 5]))\n";
}

}  // namespace linchpin
