#include "checkpoint/gguf_template.h"

#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// The row of the model that stands at `row` of a file whose heads have so many.
int64_t ModelRow(int64_t row, int64_t rows_per_head) {
  const int64_t within = row % rows_per_head;
  return row - within + within % 2 * (rows_per_head / 2) + within / 2;
}

// The bias of a rotated projection: each element belongs to a row.
void PairElements(int64_t rows_per_head, absl::Span<float> values) {
  const std::vector<float> model(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = model[static_cast<size_t>(ModelRow(static_cast<int64_t>(i), rows_per_head))];
  }
}

absl::Status ReadPairedRows(const Checkpoint& checkpoint, const StoredTensor& tensor, int64_t heads,
                            int64_t first, int64_t count, absl::Span<float> out) {
  const std::vector<int64_t>& shape = tensor.info.shape;
  const int64_t rows_per_head = shape[0] / heads;
  if (shape.size() == 1) {
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, first, count, out));
    PairElements(rows_per_head, out);
    return absl::OkStatus();
  }
  const auto columns = static_cast<size_t>(shape[1]);
  for (int64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, ModelRow(first + i, rows_per_head), 1,
                                        out.subspan(static_cast<size_t>(i) * columns, columns)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufTemplate> GgufTemplate::Open(const Checkpoint& gguf) {
  GgufTemplate result;
  for (size_t i = 0; i < gguf.shards().size(); ++i) {
    const std::string& name = gguf.shards()[i].name;
    ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> reader, gguf.OpenFile(name));
    ASSIGN_OR_RETURN(GgufFile file, ReadGgufFile(*reader, name));
    for (const GgufTensor& tensor : file.header.tensors) {
      result.slots_.push_back({tensor, static_cast<int>(i), {}, {}});
    }
    result.files_.push_back(std::move(file));
    result.readers_.push_back(std::move(reader));
  }
  RETURN_IF_ERROR(result.AssignParts(gguf.tensors(), gguf.path()));
  return result;
}

absl::Status GgufTemplate::AssignParts(absl::Span<const StoredTensor> parts,
                                       const std::string& path) {
  auto slot = slots_.begin();
  for (const StoredTensor& part : parts) {
    while (slot->shard != part.shard || part.begin >= slot->tensor.end ||
           part.begin < slot->tensor.begin) {
      if (++slot == slots_.end()) {
        return Error(Reason::kSourceChanged, path,
                     fmt::format("tensor {} is not where it was", part.info.name),
                     "call again when nobody writes to the file");
      }
    }
    slot->parts.push_back(part);
  }
  return absl::OkStatus();
}

absl::Status GgufTemplate::ReadBytes(const GgufSlot& slot, uint64_t offset,
                                     absl::Span<std::byte> out) const {
  if (!slot.content.empty()) {
    slot.content.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return absl::OkStatus();
  }
  return readers_[static_cast<size_t>(slot.shard)]->ReadAt(slot.tensor.begin + offset, out);
}

absl::Status ReadRowsForGguf(const Checkpoint& checkpoint, const StoredTensor& tensor,
                             const RowEncoding& encoding, int64_t first, int64_t count,
                             absl::Span<float> out) {
  if (encoding.heads == 0) {
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, first, count, out));
  } else {
    RETURN_IF_ERROR(ReadPairedRows(checkpoint, tensor, encoding.heads, first, count, out));
  }
  if (encoding.added != 0) {
    for (float& value : out) value += encoding.added;
  }
  return absl::OkStatus();
}

}  // namespace linchpin
