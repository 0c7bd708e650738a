// Prints, as JSON, the mean loss in nats that llama.cpp gives to token ids:
//   node llama_loss.mjs MODEL.gguf IDS.json [ADAPTER.gguf]
// IDS.json is a list of ids; the first one is only read.  Attention is computed plainly and keys and
// values kept in 32 bits, so that what is left of a difference is the weights' and the kernels'.
import fs from "fs";
import path from "path";
import {createRequire} from "module";
import {pathToFileURL} from "url";

const [model_path, ids_path, adapter] = process.argv.slice(2);
const require = createRequire(path.join(process.env.LLAMA_CPP, "package.json"));
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 2});
const model = await llama.loadModel({modelPath: model_path});
const ids = JSON.parse(fs.readFileSync(ids_path, "utf8"));
const context = await model.createContext({
  contextSize: ids.length + 8, sequences: 1, flashAttention: false,
  experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
  ...(adapter ? {lora: adapter} : {})});
const inputs = ids.map((id) => [id, {generateNext: {probabilities: true}}]);
const outputs = await context.getSequence().controlledEvaluate(inputs);
let loss = 0;
for (let i = 0; i + 1 < ids.length; ++i) {
  loss -= Math.log(outputs[i].next.probabilities.get(ids[i + 1]));
}
console.log(JSON.stringify({tokens: ids.length - 1, loss: loss / (ids.length - 1)}));
await llama.dispose();
