// What Checkpoint does for a GGUF file.
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_tensors.h"
#include "checkpoint/gguf_tokenizer.h"

namespace linchpin {

absl::StatusOr<Checkpoint> Checkpoint::OpenGguf(const Storage& storage, std::string_view path) {
  Checkpoint checkpoint;
  checkpoint.storage_ = &storage;
  checkpoint.path_ = path;
  checkpoint.directory_ = DirectoryOf(path);
  checkpoint.is_gguf_ = true;

  std::vector<GgufFile> files;
  GgufRopeFactors factors;
  RETURN_IF_ERROR(checkpoint.AddGgufFile(FileNameOf(path), files, factors));
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   GgufFileNames(GgufFields(path, files.front().header), FileNameOf(path)));
  for (size_t i = 1; i < names.size(); ++i) {
    RETURN_IF_ERROR(checkpoint.AddGgufFile(names[i], files, factors));
  }

  const GgufFields fields(path, files.front().header);
  ASSIGN_OR_RETURN(const GgufFamily* family, FindGgufFamily(fields));
  ASSIGN_OR_RETURN(checkpoint.tensors_, GgufTensors(fields, files, *family));
  ASSIGN_OR_RETURN(checkpoint.config_text_,
                   GgufConfig(fields, *family, checkpoint.tensors_, factors));
  for (size_t i = 0; i < checkpoint.tensors_.size(); ++i) {
    const StoredTensor& tensor = checkpoint.tensors_[i];
    if (checkpoint.by_name_.emplace(tensor.info.name, i).second) continue;
    return Error(Reason::kIndexInvalid, checkpoint.Where(tensor), "stands in another file, too",
                 "fetch the files of the model again");
  }
  checkpoint.AddAliases(!checkpoint.Has("lm_head.weight"));
  return checkpoint;
}

absl::Status Checkpoint::AddGgufFile(const std::string& name, std::vector<GgufFile>& files,
                                     GgufRopeFactors& factors) {
  const std::string path = JoinPath(directory_, name);
  ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, storage_->Open(path));
  ASSIGN_OR_RETURN(GgufFile gguf, ReadGgufFile(*file, path));
  RETURN_IF_ERROR(ReadRopeFactors(*file, path, gguf.header, factors));
  files.push_back(std::move(gguf));
  shards_.push_back({name, file->size(), {}});
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

// The vocabulary is not kept: few calls need it, and it is large.
absl::StatusOr<std::string> Checkpoint::GgufTokenizerText() const {
  ASSIGN_OR_RETURN(const GgufFile gguf, ReadGgufFile(*files_.front(), path_));
  return GgufTokenizerJson(GgufFields(path_, gguf.header));
}

}  // namespace linchpin
