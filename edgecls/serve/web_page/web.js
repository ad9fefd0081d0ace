// Classifies in the browser: view.js is the page, this is what answers it without a server. Nothing leaves the device.

import { decodeGray, loadGray } from "./decode.js";
import { fromRgba } from "./gray.js";
import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";
import { fit } from "./resize.js";

const now = () => performance.now();
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const mostOf = (values) => values.reduce((most, value) => Math.max(most, value), 0);
let model = null;

// Browsers compute checksums only for https and for pages of this machine.
async function sha256(...parts) {
  if (!crypto.subtle) return null;
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer())));
}

async function load(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status}). Write the folder again.`);
  return response;
}

async function openModel() {
  const info = await (await load("model.json")).json();
  const bytes = new Uint8Array(await (await load("model.tflite")).arrayBuffer());
  const found = await sha256(bytes);
  if (found && found !== info.file_sha256) {
    throw new Error("model.tflite and model.json are of different files. Reload; if it stays so, write the folder again.");
  }
  // LiteRT reports all that it does as errors.
  self.Module = { printErr: (line) => (/^(INFO|WARNING):/.test(line) ? console.debug(line) : console.error(line)) };
  await loadLiteRt("litert/");
  model = await loadAndCompile(bytes, { accelerator: "wasm" });
  return info;
}

// Returns the scores of the network's input, height * width bytes, and the heat map, flat, if the file has one.
async function run(gray, info) {
  const { height, width, channels } = info;
  const values = info.input_dtype === "float32" ? new Float32Array(gray.length * channels) : new Uint8Array(gray.length * channels);
  for (let i = 0; i < values.length; i++) values[i] = gray[Math.floor(i / channels)];
  const input = new Tensor(values, [1, height, width, channels]);
  const outputs = await model.run(input);
  try {
    let [scores, heatmap] = [null, null];
    for (const output of outputs) {
      const data = (await output.data()).slice();
      // The heat map has rows and columns.
      if (output.type.layout.dimensions.length === 4) heatmap = { data, shape: [...output.type.layout.dimensions] };
      else scores = dequantize(data);
    }
    if (!scores.every((score) => score >= 0)) throw new Error("The network returned no numbers. Export the file again.");
    return { scores, heatmap };
  } finally {
    input.delete();
    outputs.forEach((output) => output.delete());
  }
}

// TFLite fixes the scale of a softmax.
function dequantize(data) {
  if (data instanceof Uint8Array) return Float32Array.from(data, (value) => value / 256);
  return data instanceof Int8Array ? Float32Array.from(data, (value) => (value + 128) / 256) : data;
}

// The index of the label, as ModelSpec.decide in edgecls/model_file/metadata.py chooses it.
function decide(scores, { labels, good_class: goodClass, good_threshold: least }) {
  const highest = (values) => values.indexOf(Math.max(...values));
  const good = labels.indexOf(goodClass);
  if (!goodClass || least === null) return highest([...scores]);
  return scores[good] >= least ? good : highest(Array.from(scores, (score, i) => (i === good ? -1 : score)));
}

// Returns an entry as `predict --json` has it; `begun` and `decoded` are times.
async function classifyGray(gray, begun) {
  const { info } = state;
  const decoded = now();
  const { scores, heatmap } = await run(gray, info);
  const index = decide(scores, info);
  const entry = {
    label: info.labels[index],
    index,
    score: scores[index],
    scores: Object.fromEntries(info.labels.map((label, i) => [label, scores[i]])),
    latency_ms: { decode: decoded - begun, network: now() - decoded, whole: now() - begun },
  };
  if (heatmap) entry.heatmap = toRows(heatmap, index);
  return entry;
}

function toRows({ data, shape: [, rows, columns, labels] }, index) {
  const at = (row, column) => data[(row * columns + column) * labels + index];
  return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => at(row, column)));
}

async function classify(blob) {
  const begun = now();
  return classifyGray(await loadGray(new Uint8Array(await blob.arrayBuffer()), state.info), begun);
}

async function classifyFrame(canvas) {
  // Lets the browser draw, and waits while the page is hidden.
  await new Promise(requestAnimationFrame);
  const begun = now();
  const { width, height } = canvas;
  const gray = fromRgba(canvas.getContext("2d").getImageData(0, 0, width, height));
  return classifyGray(fit({ gray, stored: [width, height], shrunk: 1, orientation: 1 }, state.info), begun);
}

// The golden samples of the file, as edgecls/model_file/selftest.py compares them.
async function runSelftest(info) {
  if (!info.golden.length) return { passed: null, text: "The file has no golden samples, so it was not tested in this browser." };
  for (const sample of info.golden) {
    let fault;
    try {
      fault = await testSample(sample, info);
    } catch (error) {
      fault = error.message;
    }
    if (fault) return { passed: false, text: `${sample.name}: ${fault}` };
  }
  const same = info.golden.every(({ file }) => file) ? "pixels and scores" : "scores";
  return { passed: true, text: `This browser gives the expected ${same} for ${info.golden.length} golden samples.` };
}

async function testSample(sample, info) {
  const expected = (await decodeGray(fromBase64(sample.pixels), null)).data;
  // Samples of other formats than PNG and JPEG have none.
  if (sample.file) {
    const file = fromBase64(sample.file);
    const { data, width, height } = await decodeGray(file, info.bits);
    const found = await sha256(`(${width}, ${height})`, data);
    const pixels = await loadGray(file, { ...info, roi: null });
    const off = mostOf(pixels.map((value, i) => Math.abs(value - expected[i])));
    if ((found && found !== sample.gray_sha256) || off) return `its pixels differ by up to ${off} gray values`;
  }
  const { scores } = await run(expected, info);
  const shift = mostOf(scores.map((score, i) => Math.abs(score - sample.scores[i])));
  return shift <= info.tolerance ? "" : `its scores differ by up to ${shift.toPrecision(3)}`;
}

// Keeps the page in the browser, so that it opens without a network.
async function keepOffline() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return "no; browsers keep only pages of https";
  // A folder that was written again: all of its files change at once.
  if (serviceWorker.controller) serviceWorker.addEventListener("controllerchange", () => location.reload());
  const used = performance.getEntriesByType("resource").map(({ name }) => name);
  const build = /litert\/(\w+)\.wasm$/.exec(used.find((name) => name.endsWith(".wasm")) || "")?.[1] || "";
  try {
    await serviceWorker.register(`sw.js?build=${build}`);
    await serviceWorker.ready;
    return "yes, this page is kept in the browser";
  } catch (error) {
    return `no; ${error.message}`;
  }
}

async function start() {
  [state.classify, state.classifyFrame] = [classify, classifyFrame];
  $("file").accept = "image/png,image/jpeg";
  try {
    state.info = await openModel();
    state.info.selftest = await runSelftest(state.info);
  } catch (error) {
    state.info = null;
    setText("selftest", "Not started");
    report(error.message);
    return;
  }
  listen();
  showInfo();
  state.info.offline = await keepOffline();
  describe(state.info);
}

start();
