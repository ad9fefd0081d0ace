"use strict";

// What `edgecls serve` adds to view.js: the board's own camera, and the server that classifies.
// The token is in the address after "#", which browsers never send; it is kept for this tab alone.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.get("token")) {
  sessionStorage.setItem("token", fragment.get("token"));
  history.replaceState(null, "", location.pathname);
}

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

async function classify(blob) {
  const response = await ask("/api/predict?heatmap=1", { method: "POST", body: blob });
  return (await response.json())[0];
}

async function classifyFrame(canvas) {
  return classify(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92)));
}

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

async function start() {
  [state.classify, state.classifyFrame] = [classify, classifyFrame];
  listen();
  try {
    state.info = await (await ask("/api/info")).json();
  } catch (error) {
    setText("selftest", "Not connected");
    report(error.message);
    return;
  }
  showInfo();
  $("source-board").hidden = !state.info.live;
  $("source-board").addEventListener("click", () => (state.source === "board" ? stopSource("") : showBoard()));
  if (state.info.collecting) startCollected();
  if (state.info.live) showBoard();
}

addEventListener("DOMContentLoaded", start);
