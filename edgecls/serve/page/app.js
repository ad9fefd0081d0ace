"use strict";

// The token is in the address after "#", which browsers never send; it is kept for this tab alone.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.get("token")) {
  sessionStorage.setItem("token", fragment.get("token"));
  history.replaceState(null, "", location.pathname);
}
const $ = (id) => document.getElementById(id);
const state = { info: null, source: "", entry: null, url: "", stream: null, abort: null, times: [] };

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let text = `${response.status} ${response.statusText}`;
  try {
    text = (await response.json()).error || text;
  } catch { /* no JSON: the status says it */ }
  const error = new Error(text);
  error.status = response.status;
  throw error;
}

function report(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function percent(score) {
  return `${(score * 100).toFixed(1)}\u00a0%`;
}

function showEntry(entry) {
  state.entry = entry;
  const threshold = Number($("threshold").value) / 100;
  const ranked = Object.entries(entry.scores).sort((a, b) => b[1] - a[1]);
  const best = state.info.labels[entry.index];
  const rejected = entry.label === null || entry.score < threshold;
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

function showThreshold() {
  $("threshold-value").textContent = percent(Number($("threshold").value) / 100);
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

async function classify(blob) {
  const response = await ask("/api/predict?heatmap=1", { method: "POST", body: blob });
  return (await response.json())[0];
}

async function classifyFile(blob) {
  stopSource("");
  try {
    await showImage(blob);
    showEntry(await classify(blob));
    report("");
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
  $("source-board").setAttribute("aria-pressed", String(next === "board"));
  $("source-camera").setAttribute("aria-pressed", String(next === "camera"));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function showBoard() {
  stopSource("board");
  state.abort = new AbortController();
  const { signal } = state.abort;
  while (state.source === "board" && !signal.aborted) {
    try {
      const response = await ask("/api/live", { signal });
      report("");
      await readEvents(response.body.getReader(), signal);
    } catch (error) {
      if (signal.aborted) return;
      report(`The live view stopped: ${error.message}. Trying again.`);
    }
    await pause(1000);
  }
}

// Server-sent events, read by hand: EventSource cannot send the token.
async function readEvents(reader, signal) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return;
    text += decoder.decode(value, { stream: true });
    const parts = text.split("\n\n");
    text = parts.pop();
    const last = parts.filter((part) => part.startsWith("data: ")).pop();
    if (!last) continue;
    const event = JSON.parse(last.slice(6));
    if (event.error) {
      report(event.error);
      continue;
    }
    const picture = await (await ask("/api/frame", { signal })).blob();
    if (state.source !== "board") return;
    await showImage(picture);
    showEntry(event);
  }
}

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
    const frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    try {
      const entry = await classify(frame);
      if (state.stream !== stream) return;
      state.times = [...state.times, performance.now()].slice(-20);
      const seconds = (state.times.at(-1) - state.times[0]) / 1000;
      showEntry({ ...entry, frames_per_s: seconds ? (state.times.length - 1) / seconds : 0 });
      report("");
    } catch (error) {
      report(error.message);
      await pause(1000);
    }
  }
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
    showThreshold();
    if (state.entry) showEntry(state.entry);
  });
  $("top").addEventListener("input", () => state.entry && showEntry(state.entry));
  $("heatmap").addEventListener("change", drawHeatmap);
  addEventListener("resize", drawHeatmap);
  $("source-board").addEventListener("click", () => (state.source === "board" ? stopSource("") : showBoard()));
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

async function start() {
  listen();
  try {
    state.info = await (await ask("/api/info")).json();
  } catch (error) {
    setText("selftest", "Not connected");
    report(error.message);
    return;
  }
  const { selftest } = state.info;
  const title = { true: "Self-test passed.", false: "Self-test failed." }[selftest.passed] || "Self-test: none.";
  setText("selftest", `${title} ${selftest.text}`);
  $("selftest").classList.add({ true: "good", false: "bad" }[selftest.passed] || "soft");
  $("threshold").value = (state.info.threshold || 0) * 100;
  showThreshold();
  $("heatmap-row").hidden = !state.info.heatmap;
  $("source-board").hidden = !state.info.live;
  describe(state.info);
  if (state.info.collecting) startCollected();
  if (state.info.live) showBoard();
}

addEventListener("DOMContentLoaded", start);
