#include "jobs/admission.h"

#include <atomic>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(Admission, TakesSlotsUntilThereAreNone) {
  Admission admission({.slots = 2, .bytes = 100});
  auto first = admission.Admit();
  auto second = admission.Admit();
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = admission.Admit();
  EXPECT_EQ(ReasonOf(third.status()), Reason::kBusy);
  EXPECT_THAT(std::string(third.status().message()), testing::HasSubstr("all 2 job slots"));
  first->Release();
  EXPECT_TRUE(admission.Admit().ok());
}

TEST(Admission, ReservesBytesUntilTheyAreGone) {
  Admission admission({.slots = 3, .bytes = 100});
  auto first = admission.Admit();
  auto second = admission.Admit();
  ASSERT_TRUE(first->Grow(60).ok());
  EXPECT_EQ(ReasonOf(second->Grow(41)), Reason::kBusy);
  EXPECT_EQ(second->bytes(), 0U);
  EXPECT_TRUE(second->Grow(40).ok());
  EXPECT_EQ(admission.reserved_bytes(), 100U);
  first->Release();
  EXPECT_EQ(admission.reserved_bytes(), 40U);
  EXPECT_TRUE(second->Grow(60).ok());
}

TEST(Admission, KeepsMemoryAndScratchApart) {
  std::vector<std::pair<Room, uint64_t>> seen;
  Admission admission(
      {.slots = 2,
       .bytes = 100,
       .scratch_bytes = 1000,
       .on_change = [&](Room room, uint64_t bytes) { seen.emplace_back(room, bytes); }});
  auto first = admission.Admit();
  auto second = admission.Admit();
  ASSERT_TRUE(first->Grow(100).ok());
  ASSERT_TRUE(first->Grow(900, Room::kScratch).ok());
  const absl::Status busy = second->Grow(101, Room::kScratch);
  EXPECT_EQ(ReasonOf(busy), Reason::kBusy);
  EXPECT_THAT(std::string(busy.message()), testing::HasSubstr("bytes of scratch"));
  const absl::Status never = second->Grow(1001, Room::kScratch);
  EXPECT_THAT(DetailsOf(never), testing::ElementsAre(testing::Pair("limit_bytes", "1000")));
  EXPECT_THAT(std::string(never.message()), testing::HasSubstr("--max-scratch"));
  EXPECT_EQ(admission.reserved_bytes(Room::kScratch), 900U);
  first->Release();
  EXPECT_EQ(admission.reserved_bytes(), 0U);
  EXPECT_EQ(admission.reserved_bytes(Room::kScratch), 0U);
  EXPECT_THAT(seen, testing::ElementsAre(
                        testing::Pair(Room::kMemory, 100), testing::Pair(Room::kScratch, 900),
                        testing::Pair(Room::kMemory, 0), testing::Pair(Room::kScratch, 0)));
}

TEST(Admission, SaysWhatCanNeverFit) {
  Admission admission({.slots = 2, .bytes = 100});
  auto ticket = admission.Admit();
  const absl::Status whole = ticket->Grow(101);
  EXPECT_EQ(ReasonOf(whole), Reason::kExceedsServerLimit);
  EXPECT_THAT(DetailsOf(whole), testing::ElementsAre(testing::Pair("limit_bytes", "100")));
  ASSERT_TRUE(ticket->Grow(90).ok());
  // What this ticket holds itself can never come free for it.
  EXPECT_EQ(ReasonOf(ticket->Grow(11)), Reason::kExceedsServerLimit);
  EXPECT_EQ(ReasonOf(ticket->Grow(~uint64_t{0})), Reason::kExceedsServerLimit);
  EXPECT_EQ(ticket->bytes(), 90U);
}

TEST(Admission, GivesBackWithTheTicketAndOnlyOnce) {
  std::vector<uint64_t> seen;
  Admission admission(
      {.slots = 1, .bytes = 10, .on_change = [&](Room, uint64_t bytes) { seen.push_back(bytes); }});
  {
    auto ticket = admission.Admit();
    ASSERT_TRUE(ticket->Grow(4).ok());
    Admission::Ticket moved = *std::move(ticket);
    EXPECT_EQ(admission.slots_in_use(), 1);
    moved.Release();
    moved.Release();
    EXPECT_EQ(ReasonOf(moved.Grow(1)), Reason::kInternal);
  }
  EXPECT_EQ(admission.slots_in_use(), 0);
  EXPECT_EQ(admission.reserved_bytes(), 0U);
  EXPECT_THAT(seen, testing::ElementsAre(4, 0));
}

TEST(Admission, MoveAssignmentGivesBackWhatWasHeld) {
  Admission admission({.slots = 2, .bytes = 10});
  Admission::Ticket first = *admission.Admit();
  Admission::Ticket second = *admission.Admit();
  first = std::move(second);
  EXPECT_EQ(admission.slots_in_use(), 1);
}

TEST(Admission, NeverPassesItsLimitUnderContention) {
  Admission admission({.slots = 4, .bytes = 100});
  std::atomic<int> granted = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        auto ticket = admission.Admit();
        if (!ticket.ok() || !ticket->Grow(40).ok()) continue;
        EXPECT_LE(admission.reserved_bytes(), 100U);
        ++granted;
      }
    });
  }
  threads.clear();
  EXPECT_GT(granted, 0);
  EXPECT_EQ(admission.reserved_bytes(), 0U);
  EXPECT_EQ(admission.slots_in_use(), 0);
}

}  // namespace
}  // namespace linchpin
