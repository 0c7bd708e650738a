// Prints, as JSON, the token ids that llama.cpp gives to texts, special tokens read as such:
//   node llama_tokens.mjs MODEL.gguf TEXTS.json
// TEXTS.json is a list of texts; the answer is a list of lists.
import fs from "fs";
import path from "path";
import {createRequire} from "module";
import {pathToFileURL} from "url";

const [model_path, texts_path] = process.argv.slice(2);
const require = createRequire(path.join(process.env.LLAMA_CPP, "package.json"));
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 2});
const model = await llama.loadModel({modelPath: model_path, vocabOnly: true});
const texts = JSON.parse(fs.readFileSync(texts_path, "utf8"));
console.log(JSON.stringify(texts.map((text) => model.tokenize(text, true))));
await llama.dispose();
