// Keeps the folder's files in the browser. files.js names them and their version: when the folder is written again, it
// differs, and the browser installs all new files before it shows one of them.
"use strict";

importScripts("files.js");
const PREFIX = `edgecls ${registration.scope} `;
const CACHE = PREFIX + FOLDER.version;
// LiteRT.js has two builds; the page says in this script's address which one the browser runs.
const build = new URL(location.href).searchParams.get("build");
const wanted = FOLDER.files.filter((file) => !/_internal\.(js|wasm)$/.test(file) || file.startsWith(`litert/${build}.`));

async function install() {
  const cache = await caches.open(CACHE);
  // "no-cache" asks the server whether a file has changed.
  await cache.addAll(["./", ...wanted].map((file) => new Request(file, { cache: "no-cache" })));
  await skipWaiting();
}

async function activate() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const isPage = request.mode === "navigate";
  return (await cache.match(isPage ? "./" : request, { ignoreSearch: true })) || fetch(request);
}

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(activate()));
addEventListener("fetch", (event) => {
  const isOurs = event.request.method === "GET" && event.request.url.startsWith(registration.scope);
  if (isOurs) event.respondWith(answer(event.request));
});
