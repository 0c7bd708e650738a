#include "client/command_line.h"

#include <iostream>
#include <string_view>

#include "CLI/CLI.hpp"
#include "client/amounts.h"
#include "client/enum_names.h"
#include "client/errors.h"

namespace linchpin {
namespace {

constexpr int kLargestCount = 1'000'000;

void AddModel(CLI::App* command, CommandLine& line) {
  command
      ->add_option("MODEL", line.model, "Checkpoint: a directory, a .safetensors or a .gguf file")
      ->required();
}

void AddWindows(CLI::App* command, const std::string& prefix, WindowOptions& windows) {
  command->add_option(prefix + "window", windows.size, "Tokens per window of a text, BOS included")
      ->check(CLI::Range(2, kLargestCount));
  command->add_option(prefix + "windows", windows.count, "Windows of a text at most")
      ->check(CLI::Range(1, kLargestCount));
}

void AddProof(CLI::App* command, ProofOptions& proof) {
  command->add_option("--proof", proof.level, "How far to prove what is found")
      ->check(CLI::IsMember({"none", "joint", "full"}))
      ->capture_default_str();
  auto* ids = command->add_option(
      "--proof-tokens", proof.tokens.ids_file,
      "Tokens to prove on: a JSON array of arrays of ids; default a built-in text");
  auto* text = command->add_option("--proof-text", proof.tokens.text_file,
                                   "Text to prove on, through the model's tokenizer");
  ids->excludes(text);
  AddWindows(command, "--proof-", proof.windows);
  command->add_flag("--study", proof.study,
                    "Measure what the super weight paper draws, on the proof's tokens; it stands "
                    "in the JSON document");
}

void AddThresholds(CLI::App* command, LookOptions& look) {
  command->add_option("--threshold", look.thresholds,
                      "Another number for a rule of detection: NAME=VALUE, as detect --json prints "
                      "them; may be given again");
}

// Pruning has defaults of its own for what is not given.
void AddPruning(CLI::App* command, QuantizationChoices& choices) {
  auto* prune = command
                    ->add_option("--prune", choices.prune,
                                 "Make weights zero instead: the least of each tensor by "
                                 "magnitude, or two of each four along the input; dense, and the "
                                 "super weights are spared unless preserve is none")
                    ->check(CLI::IsMember({"magnitude", "2:4"}))
                    ->excludes(command->get_option("--scheme"));
  command
      ->add_option("--sparsity", choices.sparsity,
                   "With --prune magnitude: the part of each tensor that becomes zero, else 0.5")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(prune);
  command->parse_complete_callback([command, &choices] {
    if (choices.prune.empty()) return;
    choices.scheme.clear();
    if (command->count("--format") == 0) choices.format.clear();
    if (command->count("--preserve") == 0) choices.preserve.clear();
  });
}

void AddQuantization(CLI::App* command, QuantizationChoices& choices) {
  const auto choice = [&](const char* name, std::string& value, const char* help,
                          const std::vector<std::string>& values) {
    command->add_option(name, value, help)->check(CLI::IsMember(values))->capture_default_str();
  };
  choice("--format", choices.format, "Layout of the output", FormatNames());
  choice("--scheme", choices.scheme, "What a weight becomes", SchemeNames());
  choice("--group-size", choices.group_size, "Elements per scale",
         {"auto", "32", "64", "128", "channel"});
  command->add_flag("--asymmetric", choices.asymmetric, "Codes around a zero point per group");
  command->add_flag("--equalize", choices.equalize,
                    "Scale channels between norms and the layers that read them by powers of two, "
                    "which cancel: the channels that matter are rounded finer");
  command->add_option("--scale", choices.scale, "Where a group's scale comes from")
      ->check(CLI::IsMember(ScaleRuleNames()))
      ->default_str("importance, or signed where detection is off");
  choice("--preserve", choices.preserve, "How a super weight survives", PreserveNames());
  command->add_option("--embeddings", choices.embeddings, "Bits of the embedding, else as it is")
      ->check(CLI::IsMember({8}));
  command->add_option("--lm-head", choices.lm_head, "Bits of the output head, else as it is")
      ->check(CLI::IsMember({8}));
  AddPruning(command, choices);
  command->add_option("--gguf-donor", choices.gguf_donor,
                      "GGUF file of the same model that lends its metadata and tokenizer to a "
                      "GGUF output");
  command->add_option("--bits", choices.block_bits, "Of scheme blocks: bits of a code")
      ->check(CLI::Range(2, 8))
      ->capture_default_str();
  command
      ->add_option("--block", choices.block,
                   "Of scheme blocks: consecutive elements of a block, or the sides of a tile "
                   "as 128x128")
      ->capture_default_str();
  command->add_option("--z", choices.z, "Of scheme blocks: clip to mean|w| + z std|w|; 0: not")
      ->capture_default_str();
  command->add_option("--ignore", choices.ignore,
                      "Modules that stay as they are; * for any part; may be given again");
  command->add_option("--include", choices.include,
                      "Quantize these modules only; * for any part; may be given again");
  choice("--source-digest", choices.source_digest,
         "off: leave the SHA-256 of MODEL's files out of the manifest, which takes as long as the "
         "rest of a plain compression",
         {"on", "off"});
  command->add_option("--calibration", choices.calibration_file,
                      "Tokens that tell which input channels matter, in place of the built-in "
                      "ones: a text, or as FILE.json an array of arrays of ids");
}

void AddDetection(CLI::App* command, LookOptions& look) {
  command
      ->add_option("--detection", look.detection,
                   "off: no forward pass; no super weight is known or kept then, nor is a scale "
                   "weighed by its inputs; also for families that are not known")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
}

void AddMemory(CLI::App* command, CommandLine& line) {
  command
      ->add_option("--max-memory", line.max_memory,
                   "Memory that the job may take, as 600MB or 2GiB; the output is the same")
      ->check([](const std::string& text) {
        return SizeIn(text) ? std::string() : text + " is no size like 600MB or 2GiB";
      });
}

void AddDetect(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("detect", "Find the super weights of a checkpoint");
  AddModel(command, line);
  auto* ids = command->add_option("--tokens", line.tokens.ids, "Prompt as token ids: 1,2,3");
  auto* text = command->add_option("--text", line.tokens.text, "Prompt as text");
  auto* file = command->add_option("--text-file", line.tokens.text_file, "Prompt as a text file");
  ids->excludes(text)->excludes(file);
  text->excludes(file);
  auto* prompts = command
                      ->add_option("--prompts", line.look.prompts,
                                   "Look with so many prompts, 1 to 7, and say whether they agree")
                      ->check(CLI::Range(1, 7));
  auto* weights_only = command->add_flag(
      "--weights-only", line.look.weights_only,
      "No forward pass: rank rows by weights alone, also of a family that is not known");
  for (auto* option : {prompts, ids, text, file}) weights_only->excludes(option);
  AddThresholds(command, line.look);
  AddProof(command, line.proof);
  command->add_option("--out", line.report_file, "Write the JSON document to this file as well");
}

void AddCompress(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("compress", "Write a compressed model");
  AddModel(command, line);
  command->add_option("OUT", line.output, "Directory to create")->required();
  AddQuantization(command, line.quantization);
  AddDetection(command, line.look);
  AddThresholds(command, line.look);
  AddProof(command, line.proof);
  AddMemory(command, line);
  command->add_option("--manifest", line.report_file, "Write the manifest to this file as well");
  command->add_flag("--overwrite", line.overwrite, "Replace OUT, at once and whole");
  command->add_flag("--upload", line.upload,
                    "Send MODEL's files to the server and write what it sends back to OUT: for a "
                    "server that does not reach these directories");
}

void AddPlan(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("plan", "Show what compress would do; writes nothing");
  AddModel(command, line);
  auto* out = command->add_option("OUT", line.output, "Directory that compress would create");
  AddQuantization(command, line.quantization);
  AddDetection(command, line.look);
  AddMemory(command, line);
  AddProof(command, line.proof);
  command
      ->add_option("--save", line.job_file,
                   "Find the super weights as well and measure which input channels matter, unless "
                   "--detection is off, and write the job to this file, for compress-shard and "
                   "finalize; what is known of MODEL is left beside OUT")
      ->needs(out);
}

// Commands for a job that `plan --save` wrote.
void AddShards(CLI::App& app, CommandLine& line) {
  const auto add = [&](const char* name, const char* help) {
    CLI::App* command = app.add_subcommand(name, help);
    command->add_option("--plan", line.job_file, "The job: a file that plan --save wrote")
        ->required();
    return command;
  };
  add("compress-shard", "Compress one shard of a job; harmless to repeat")
      ->add_option("--index", line.shard, "Which shard, from 0")
      ->required()
      ->check(CLI::Range(0, kLargestCount));
  add("compress-shards", "Compress all shards of a job that are not finished, several at once")
      ->add_option("--workers", line.workers, "Shards at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  add("finalize", "Check the shards of a job and put its output together")
      ->add_flag("--overwrite", line.overwrite, "Replace the output, at once and whole");
}

void AddAnalyses(CLI::App* command, CommandLine& line) {
  AnalysisChoices& choices = line.analyses;
  auto* arms = command->add_flag(
      "--arms", choices.arms,
      "Besides, round the weights in blocks, with and without clipping and super weights put "
      "back; without tokens on a built-in text, as all of these");
  command
      ->add_option("--blocks", choices.blocks,
                   "Of --arms: elements of a block, or tensor for a whole one; several with "
                   "commas; default 16384,65536,262144,1048576,tensor")
      ->delimiter(',')
      ->needs(arms);
  command->add_option("--bits", choices.bits, "Of --arms: bits of a code")
      ->check(CLI::Range(2, 8))
      ->capture_default_str()
      ->needs(arms);
  command->add_option("--z", choices.z, "Of --arms: clip to mean|w| + z std|w|")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->needs(arms);
  auto* activations = command->add_flag(
      "--activations", choices.activations,
      "Besides, round weights and activations to 8 bits: plainly, as SmoothQuant does, and with "
      "the super activations kept");
  command->add_option("--smoothing", choices.smoothing, "Of --activations: SmoothQuant's alpha")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->needs(activations);
  command->add_flag("--awq", choices.awq,
                    "Besides, search as AWQ does for the scale of each super weight's channel");
  command->add_option("--calibration", choices.calibration_file,
                      "Tokens for --activations and --awq, in place of the built-in ones: a text, "
                      "or as FILE.json an array of arrays of ids");
  AddThresholds(command, line.look);
}

void AddEvaluate(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("evaluate", "Measure loss and perplexity of a model");
  AddModel(command, line);
  command->add_option(
      "--against", line.against,
      "Another model with the same vocabulary: its loss, and the divergence from it");
  auto* sources = command->add_option_group("tokens");
  sources->add_option("--tokens", line.tokens.ids_file, "A JSON array of arrays of token ids");
  sources->add_option("--text-file", line.tokens.text_file, "A text, cut into windows");
  sources->require_option(0, 1);
  AddWindows(command, "--", line.windows);
  AddAnalyses(command, line);
}

void AddReport(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "report", "Show manifests and detections as one page of HTML with the paper's figures");
  command
      ->add_option("MANIFEST", line.manifests,
                   "A linchpin.json, the directory that holds it, or a file of detect --out")
      ->required();
  command->add_option("--out", line.report_file, "The page to write")->required();
}

void AddGlobals(CLI::App& app, CommandLine& line) {
  ConnectionOptions& connection = line.connection;
  app.add_option("--endpoint", connection.endpoint,
                 "Server: unix:PATH or HOST:PORT; without it the command starts its own");
  app.add_option("--tls-ca", connection.tls_ca, "Roots to trust (PEM); default the system's");
  auto* cert = app.add_option("--tls-cert", connection.tls_cert, "Own certificate chain (PEM)");
  auto* key = app.add_option("--tls-key", connection.tls_key, "Its private key (PEM)");
  app.add_option("--token-file", connection.token_file,
                 "Send the bearer token in this file with every call");
  app.add_option("--push-metrics", connection.push_metrics,
                 "Send the metrics of this command to a Pushgateway, http://HOST:PORT");
  cert->needs(key);
  key->needs(cert);
  app.add_flag("--json", line.json, "Print one JSON document");
  app.add_flag("--quiet", line.quiet, "Print no progress");
  app.set_version_flag("--version", "linchpin " LINCHPIN_VERSION);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 usage, 3 verify found a mismatch, 42 failed for "
      "good, 75 try again.");
}

// What single options cannot say; empty if all is well.
std::string Contradiction(const CommandLine& line) {
  const TokenOptions& proof = line.proof.tokens;
  const bool tokens_given = !proof.ids_file.empty() || !proof.text_file.empty();
  if (line.look.weights_only && (line.proof.level != "none" || line.proof.study)) {
    return "--weights-only runs nothing, and --proof and --study need a forward pass";
  }
  if (line.look.detection == "off" && (line.proof.level != "none" || line.proof.study)) {
    return "--detection off runs nothing, and --proof and --study need a forward pass";
  }
  if (line.proof.level == "none" && !line.proof.study && tokens_given) {
    return "--proof-tokens and --proof-text need --proof joint, --proof full or --study";
  }
  if (line.upload && !line.max_memory.empty()) {
    return "--max-memory is for a server that reads MODEL itself: with --upload it holds all of it";
  }
  const AnalysisChoices& analyses = line.analyses;
  if (!analyses.calibration_file.empty() && !analyses.activations && !analyses.awq) {
    return "--calibration needs --activations or --awq";
  }
  if (line.command == "evaluate" && !analyses.any()) {
    const bool thresholds = !line.look.thresholds.empty();
    if (thresholds) return "--threshold needs --arms, --activations or --awq";
    if (line.tokens.ids_file.empty() && line.tokens.text_file.empty()) {
      return "give --tokens or --text-file, or one of --arms, --activations and --awq";
    }
  }
  const ConnectionOptions& connection = line.connection;
  const bool secrets_given =
      !connection.tls_ca.empty() || !connection.tls_cert.empty() || !connection.token_file.empty();
  if (connection.endpoint.empty() && secrets_given) {
    return "--tls-ca, --tls-cert and --token-file need --endpoint";
  }
  if (!connection.endpoint.empty() && !connection.push_metrics.empty()) {
    return "--push-metrics is for a command without --endpoint: a server's metrics are its own";
  }
  return {};
}

void AddCommands(CLI::App& app, CommandLine& line) {
  app.add_subcommand("capabilities", "Show what the server can do");
  app.add_subcommand("demo-model", "Write the demonstration checkpoint")
      ->add_option("DIR", line.output, "Directory to create")
      ->required();
  AddPlan(app, line);
  AddDetect(app, line);
  AddCompress(app, line);
  AddShards(app, line);
  AddEvaluate(app, line);
  app.add_subcommand("verify", "Hold a compressed model against its manifest")
      ->add_option("DIR", line.model, "Compressed model")
      ->required();
  AddReport(app, line);
}

// What to say where no known command was given.
std::string CommandChoices(const CLI::App& app) {
  std::string text = "COMMAND must be one of {";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    text += command->get_name() + ",";
  }
  text.back() = '}';
  return text + "\nRun with --help for more information.\n";
}

}  // namespace

std::optional<int> ParseCommandLine(int argc, const char* const* argv, CommandLine& line) {
  CLI::App app("Finds the super weights of a language model, keeps them and compresses the rest.",
               "linchpin");
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->always_capture_default(false);
  AddGlobals(app, line);
  AddCommands(app, line);
  for (CLI::App* command : app.get_subcommands({})) command->fallthrough();
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    if (!app.get_subcommands().empty()) return app.exit(error), kExitUsage;
    std::cerr << CommandChoices(app);
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  }
  line.command = app.get_subcommands().front()->get_name();
  if (const std::string message = Contradiction(line); !message.empty()) {
    std::cerr << message << "\nRun with --help for more information.\n";
    return kExitUsage;
  }
  return std::nullopt;
}

}  // namespace linchpin
