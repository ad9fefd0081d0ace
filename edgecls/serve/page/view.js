"use strict";

// What the page shows. `edgecls serve` (app.js) and the folder of `edgecls web` (web.js) share it. They set state.info,
// state.classify (of a file) and state.classifyFrame (of a canvas), which return an entry of `predict --json`.
const $ = (id) => document.getElementById(id);
const state = {
  info: null, classify: null, classifyFrame: null, source: "", entry: null, url: "", stream: null, abort: null,
  times: [], threshold: 0,
};

function report(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function percent(score) {
  return `${(score * 100).toFixed(1)}\u00a0%`;
}

function showEntry(entry) {
  state.entry = entry;
  report((entry.warnings || []).join(" "));
  const ranked = Object.entries(entry.scores).sort((a, b) => b[1] - a[1]);
  const best = state.info.labels[entry.index];
  const rejected = entry.label === null || ranked[0][1] < state.threshold;
  setText("label", rejected ? `Not sure: ${best}? (${percent(entry.score)})` : `${best} ${percent(entry.score)}`);
  $("label").classList.toggle("bad", rejected);
  const shown = ranked.slice(0, Math.max(1, Number($("top").value) || 1));
  $("bars").replaceChildren(...shown.map(([label, score]) => {
    const item = document.createElement("li");
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.style.width = `${score * 100}%`;
    const name = document.createElement("b");
    const value = document.createElement("span");
    name.textContent = label;
    value.textContent = percent(score);
    item.append(bar, name, value);
    return item;
  }));
  for (const stage of ["decode", "network", "whole"]) setText(stage, `${entry.latency_ms[stage].toFixed(1)} ms`);
  setText("rate", entry.frames_per_s === undefined ? "–" : entry.frames_per_s.toFixed(1));
  drawHeatmap();
}

function showThreshold(threshold) {
  state.threshold = threshold;
  $("threshold-value").textContent = percent(threshold);
}

// A screen reader repeats what is set again.
function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function drawHeatmap() {
  const map = state.entry && state.entry.heatmap;
  const on = Boolean(map) && $("heatmap").checked;
  $("overlay").hidden = $("overlay-legend").hidden = !on;
  if (!on) return;
  const rows = map.length;
  const columns = map[0].length;
  const most = Math.max(...map.flat(), 1e-12);
  const small = new OffscreenCanvas(columns, rows);
  const pixels = new ImageData(columns, rows);
  map.flat().forEach((value, i) => {
    const level = Math.max(value, 0) / most;
    pixels.data.set([255, 255 * (1 - level), 0, 178 * level], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  placeOverlay();
  const canvas = $("overlay");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const scale = canvas.width / shownSize()[0];
  context.drawImage(small, ...seenPart(...shownSize()).map((side) => side * scale));
}

function shownSize() {
  const shown = $("video").hidden ? $("image") : $("video");
  return [shown.naturalWidth || shown.videoWidth || 1, shown.naturalHeight || shown.videoHeight || 1];
}

// What the network sees of an image (edgecls/images/resizing.py): left, top, width and height; more than the image if
// it is padded. Pictures of the board's own camera are cut by the server.
function seenPart(width, height) {
  if (state.source === "board") return [0, 0, width, height];
  const [left, top, partWidth, partHeight] = state.info.roi || [0, 0, width, height];
  if (state.info.resize === "stretch") return [left, top, partWidth, partHeight];
  const ratio = state.info.width / state.info.height;
  const byHeight = (partWidth > partHeight * ratio) === (state.info.resize === "crop");
  const size = byHeight ? [partHeight * ratio, partHeight] : [partWidth, partWidth / ratio];
  return [left + (partWidth - size[0]) / 2, top + (partHeight - size[1]) / 2, ...size];
}

// The canvas lies exactly over the image, which is fitted into its element.
function placeOverlay() {
  const shown = $("video").hidden ? $("image") : $("video");
  const [width, height] = shownSize();
  const scale = Math.min(shown.clientWidth / width, shown.clientHeight / height);
  const canvas = $("overlay");
  [canvas.width, canvas.height] = [Math.max(1, width * scale), Math.max(1, height * scale)].map(Math.round);
  canvas.style.left = `${shown.offsetLeft + (shown.clientWidth - canvas.width) / 2}px`;
  canvas.style.top = `${shown.offsetTop + (shown.clientHeight - canvas.height) / 2}px`;
}

async function showImage(blob) {
  const old = state.url;
  state.url = URL.createObjectURL(blob);
  $("image").src = state.url;
  try {
    await $("image").decode();
    $("image").alt = "The image that was classified";
    $("image").hidden = false;
    $("hint").hidden = true;
  } catch {
    $("image").hidden = true;
    $("hint").hidden = false;
    $("hint").textContent = "This browser cannot show an image of this format.";
  }
  if (old) URL.revokeObjectURL(old);
}

async function classifyFile(blob) {
  stopSource("");
  try {
    await showImage(blob);
    showEntry(await state.classify(blob));
  } catch (error) {
    report(error.message);
  }
}

function stopSource(next) {
  state.source = next;
  if (state.abort) state.abort.abort();
  if (state.stream) state.stream.getTracks().forEach((track) => track.stop());
  state.abort = state.stream = null;
  $("video").hidden = next !== "camera";
  for (const each of ["board", "camera"]) $(`source-${each}`).setAttribute("aria-pressed", String(next === each));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function showCamera() {
  stopSource("camera");
  if (!navigator.mediaDevices) {
    stopSource("");
    report("Browsers give their camera only to pages of this machine or of https. Choose “Image or photo” instead.");
    return;
  }
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    stopSource("");
    report(`The camera cannot be used: ${error.message}`);
    return;
  }
  const [stream, video] = [state.stream, $("video")];
  video.srcObject = stream;
  $("image").hidden = $("hint").hidden = true;
  await video.play();
  const canvas = document.createElement("canvas");
  state.times = [];
  while (state.stream === stream) {
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    try {
      const entry = await state.classifyFrame(canvas);
      if (state.stream !== stream) return;
      state.times = [...state.times, performance.now()].slice(-20);
      const seconds = (state.times.at(-1) - state.times[0]) / 1000;
      showEntry({ ...entry, frames_per_s: seconds ? (state.times.length - 1) / seconds : 0 });
    } catch (error) {
      report(error.message);
      await pause(1000);
    }
  }
}

function showInfo() {
  const { selftest, threshold, heatmap } = state.info;
  const title = { true: "Self-test passed.", false: "Self-test failed." }[selftest.passed] || "Self-test: none.";
  setText("selftest", `${title} ${selftest.text}`);
  $("selftest").classList.add({ true: "good", false: "bad" }[selftest.passed] || "soft");
  $("threshold").value = (threshold || 0) * 100;
  // The slider has steps; the file's own threshold holds exactly.
  showThreshold(threshold || 0);
  $("heatmap-row").hidden = !heatmap;
  describe(state.info);
}

function describe(info) {
  const rows = {
    Labels: info.labels.join(", "),
    Input: `${info.width} × ${info.height} pixels, gray`,
    Network: `${info.arch}, ${info.precision}`,
    Accuracy: info.metrics.accuracy === undefined ? "not measured"
      : `${percent(info.metrics.accuracy)} on ${info.metrics.images} held-out images`,
    Threshold: info.threshold === null ? "none" : percent(info.threshold),
    Engine: `${info.engine} ${info.engine_version} on ${info.device}, threads: ${info.threads}`,
    "Heat map": info.heatmap ? "yes" : "no; export the file with --heatmap",
    ...(info.offline && { Offline: info.offline }),
    Created: info.created,
    "Graph sha256": info.graph_sha256,
  };
  $("info").replaceChildren(...Object.entries(rows).flatMap(([name, text]) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    value.textContent = text;
    return [term, value];
  }));
}

function listen() {
  $("threshold").addEventListener("input", () => {
    showThreshold(Number($("threshold").value) / 100);
    if (state.entry) showEntry(state.entry);
  });
  $("top").addEventListener("input", () => state.entry && showEntry(state.entry));
  $("heatmap").addEventListener("change", drawHeatmap);
  addEventListener("resize", drawHeatmap);
  $("source-camera").addEventListener("click", () => (state.source === "camera" ? stopSource("") : showCamera()));
  $("file").addEventListener("change", () => $("file").files[0] && classifyFile($("file").files[0]));
  addEventListener("paste", (event) => event.clipboardData.files[0] && classifyFile(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
  addEventListener("dragleave", () => $("stage").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    if (event.dataTransfer.files[0]) classifyFile(event.dataTransfer.files[0]);
  });
}


// Scripts of modules, which `edgecls web` needs, are not loaded from files.
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    setText("selftest", "Not started");
    report("Open this folder through a web server: python -m http.server --directory FOLDER, then http://localhost:8000");
  });
}
