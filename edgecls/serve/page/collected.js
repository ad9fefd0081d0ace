"use strict";

// The grid of collected images. `ask`, `report`, `percent`, `stopSource` and `$` are those of app.js.
const collected = { items: [], labels: [], chosen: 0 };

async function loadCollected() {
  const data = await (await ask("/api/collected")).json();
  [collected.items, collected.labels] = [data.items, data.labels];
  const used = `${(data.bytes / 1e6).toFixed(1)} of ${(data.limit_bytes / 1e6).toFixed(1)} MB`;
  setText("collected-state", `${data.unlabeled} images without a label, ${data.labeled} sorted; ${used} used.`);
  setText("unlabeled", String(data.unlabeled));
  if (data.fault) report(data.fault);
}

function buttonFor(text, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", act);
  return button;
}

function showLabels() {
  $("labels").replaceChildren(
    ...collected.labels.map((label, i) => buttonFor(i < 9 ? `${i + 1} ${label}` : label, () => sort(label))),
    buttonFor("0 not any class", () => sort(null)),
    buttonFor("Delete", remove),
  );
}

function showGrid() {
  $("grid").replaceChildren(...collected.items.map((item, i) => {
    const cell = document.createElement("li");
    cell.setAttribute("role", "option");
    cell.tabIndex = -1;
    const image = document.createElement("img");
    const said = `${collected.labels[item.index]} ${percent(item.score || 0)}`;
    image.alt = `Image ${i + 1}, predicted ${said}, ${item.reason}`;
    const caption = document.createElement("span");
    caption.className = "soft";
    caption.textContent = `${said}, ${item.reason}`;
    cell.append(image, caption);
    cell.addEventListener("click", () => choose(i));
    loadImage(image, item.id);
    return cell;
  }));
  choose(Math.min(collected.chosen, collected.items.length - 1));
}

// By fetch, because an <img> cannot send the token.
async function loadImage(image, id) {
  try {
    const url = URL.createObjectURL(await (await ask(`/api/collected/${id}/image`)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    image.src = url;
  } catch (error) {
    image.alt = error.message;
  }
}

function choose(index) {
  const cells = [...$("grid").children];
  collected.chosen = Math.max(0, Math.min(index, cells.length - 1));
  cells.forEach((cell, i) => {
    cell.setAttribute("aria-selected", String(i === collected.chosen));
    cell.tabIndex = i === collected.chosen ? 0 : -1;
  });
  if (cells[collected.chosen]) cells[collected.chosen].focus({ preventScroll: false });
}

async function change(options) {
  const item = collected.items[collected.chosen];
  if (!item) return;
  try {
    await ask(`/api/collected/${item.id}`, options);
    report("");
  } catch (error) {
    report(error.message);
  }
  await refresh();
}

const sort = (label) => change({ method: "POST", body: JSON.stringify({ label }) });
const remove = () => change({ method: "DELETE" });

async function refresh() {
  try {
    await loadCollected();
    showGrid();
  } catch (error) {
    report(error.message);
  }
}

function press(event) {
  if ($("collected").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  if (steps[event.key]) choose(collected.chosen + steps[event.key]);
  else if (event.key === "Delete") remove();
  else if (event.key === "0") sort(null);
  else if (/^[1-9]$/.test(event.key) && collected.labels[event.key - 1] !== undefined) sort(collected.labels[event.key - 1]);
  else return;
  event.preventDefault();
}

function showTab(label) {
  $("see").hidden = label;
  $("collected").hidden = !label;
  $("tab-see").setAttribute("aria-pressed", String(!label));
  $("tab-label").setAttribute("aria-pressed", String(label));
  if (label) refresh().then(showLabels);
}

function startCollected() {
  $("tab-label").hidden = false;
  $("tab-see").addEventListener("click", () => showTab(false));
  $("tab-label").addEventListener("click", () => showTab(true));
  addEventListener("keydown", press);
  const count = () => ($("collected").hidden ? loadCollected().catch(() => {}) : null);
  count();
  setInterval(count, 5000);
}
