"use strict";
const $ = (id) => document.getElementById(id);
const HINTS = {
  chat: "Ask something. The answer appears as it settles; on the right you see every token come out of its mask.",
  prompt: "Write a beginning. The model goes on with it, block by block.",
  text: "Write or paste a text, select a part of it, and make it a gap. The model fills it seeing both sides.",
};
const SLIDERS = [["block_length", 1, 64, 1], ["steps_per_block", 0, 64, 1], ["threshold", 0, 1, 0.01],
  ["temperature", 0, 1.5, 0.05], ["max_new_tokens", 4, 512, 4]];
const ORDERS = [];  // those of inference/settings, put in by page.py
let mode = "chat", turns = [], last = null, sample = 0, stopping = null, timer = null;
// A run is what the canvas shows: a list of steps {commits, open, done}, and where it began.
let run = { steps: [], seconds: null }, shown = 0;

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- the canvas: from steps to cells ----

function frame(steps, count) {
  const cells = new Map();
  let block = 0;
  steps.slice(0, count).forEach((step, at) => {
    for (const c of step.commits) cells.set(c.position, { ...c, at, block });
    if (step.done) block += 1;
  });
  const open = count ? steps[count - 1].open : firstOpen(steps);
  for (const position of open) cells.set(position, { position, mask: true, block });
  return { cells: [...cells.values()].sort((a, b) => a.position - b.position), block, at: count - 1 };
}

function firstOpen(steps) {
  if (!steps.length) return [];
  return [...steps[0].open, ...steps[0].commits.map((c) => c.position)];
}

// A trace names no blocks: one ends where all that was written lies before all that is to come.
function stepsOfTrace(lines) {
  const steps = [];
  for (const c of lines) (steps[c.step] ??= { commits: [], open: [], done: false }).commits.push(c);
  const all = steps.filter(Boolean);
  let ahead = Infinity;
  for (let k = all.length - 1; k >= 0; k--) {
    const own = all[k].commits.map((c) => c.position);
    const before = Math.max(...all.slice(0, k + 1).flatMap((s) => s.commits.map((c) => c.position)));
    all[k].done = before < ahead;
    all[k].open = all[k].done ? [] : [...all[k + 1].open, ...all[k + 1].commits.map((c) => c.position)];
    ahead = Math.min(ahead, ...own);
  }
  return all;
}

function colour(confidence) {
  const p = Math.max(0, Math.min(1, confidence ?? 0));
  const hue = p < 0.5 ? 12 + 72 * p : 48 + 234 * (p - 0.5);
  return `hsl(${hue} ${75 - 20 * p}% var(--sure))`;
}

function drawCell(cell, now) {
  if (cell.mask) return element("span", "cell mask");
  const made = element("span", "cell", visible(cell.piece ?? String(cell.token)));
  made.style.background = colour(cell.confidence);
  if (cell.block < now.block && shown < run.steps.length) made.classList.add("past");
  if (cell.at === now.at) made.classList.add("fresh");
  made.append(element("i", "", String(cell.at + 1)));
  const sure = cell.confidence === null ? "?" : cell.confidence.toFixed(3);
  made.title = `step ${cell.at + 1} · position ${cell.position} · id ${cell.token} · ${sure}`;
  return made;
}

function visible(piece) {
  return piece.replaceAll("\n", "↵").replaceAll("\t", "→").replaceAll(" ", "·") || "∅";
}

function draw() {
  const now = frame(run.steps, shown), parts = [];
  let before = null;
  for (const cell of now.cells) {
    if (before !== null && cell.position > before + 1) parts.push(element("span", "cell gap", "…"));
    parts.push(drawCell(cell, now));
    before = cell.position;
  }
  $("canvas").replaceChildren(...parts);
  const tokens = run.steps.slice(0, shown).reduce((n, s) => n + s.commits.length, 0);
  $("tokens").value = tokens;
  $("steps").value = shown;
  $("rate").value = shown ? (tokens / shown).toFixed(2) : "–";
  $("seconds").value = run.seconds === null ? "–" : run.seconds.toFixed(1);
  $("scrub").max = run.steps.length;
  $("scrub").value = shown;
  $("where").textContent = run.steps.length ? `step ${shown} of ${run.steps.length}` : "";
  $("play").disabled = $("save").disabled = !run.steps.length || stopping !== null;
  const most = Math.max(1, ...run.steps.map((s) => s.commits.length));
  $("bars").replaceChildren(...run.steps.map((step, at) => {
    const bar = element("span", at < shown ? "on" : "");
    bar.style.height = `${Math.max(6, (100 * step.commits.length) / most)}%`;
    return bar;
  }));
}

function show(count) { shown = count; draw(); }

function replay() {
  if (timer) return halt();
  show(0);
  $("play").textContent = "Pause";
  timer = setInterval(() => (shown < run.steps.length ? show(shown + 1) : halt()), 90);
}

function halt() { clearInterval(timer); timer = null; $("play").textContent = "Replay"; }

// ---- asking ----

function settings() {
  const body = { remasking: $("remasking").value, seed: Number($("seed").value), sample };
  for (const [name] of SLIDERS) {
    const value = Number($(name).value);
    if (value || name === "temperature") body[name] = value;
  }
  if (body.threshold === undefined) body.threshold = null;
  return body;
}

async function* events(body, signal) {
  const headers = { "content-type": "application/json", ...keyHeader() };
  const response = await fetch("/illada/stream", { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts.filter((each) => each.startsWith("event: "))) {
      const [name, data] = part.split("\n");
      yield [name.slice(7), JSON.parse(data.slice(6))];
    }
  }
}

async function ask(body, onText) {
  const started = performance.now();
  stopping = new AbortController();
  halt();
  run = { steps: [], seconds: null };
  show(0);
  busy(true);
  let text = "", end = null;
  try {
    for await (const [name, data] of events({ ...body, ...settings() }, stopping.signal)) {
      if (name === "error") throw new Error(data.error.message);
      if (name === "text") onText((text += data.delta));
      if (name === "end") end = data;
      if (name === "step") run.steps.push({ commits: data.commits, open: data.open, done: data.block_done });
      run.seconds = (performance.now() - started) / 1000;
      if (name === "step") show(run.steps.length);
    }
  } catch (error) {
    if (error.name !== "AbortError") say("error", error.message);
  }
  stopping = null;
  busy(false);
  draw();
  return end;
}

function busy(is) {
  $("send").textContent = is ? "Stop" : "Send";
  $("again").disabled = is || last === null;
}

function say(kind, text) {
  document.querySelector(".hint")?.remove();
  const turn = element("div", `turn ${kind}`, text);
  $("log").append(turn);
  turn.scrollIntoView({ block: "end" });
  return turn;
}

function send() {
  if (stopping) return stopping.abort();
  const text = $("input").value;
  if (!text.trim()) return;
  sample = 0;
  last = { mode, text };
  if (mode === "chat") { $("input").value = ""; say("user", text); turns.push({ role: "user", content: text }); }
  write();
}

async function write() {
  if (last.mode === "chat") {
    const turn = say("assistant", "");
    const end = await ask({ messages: turns }, (text) => { turn.textContent = text; });
    if (end) { turn.textContent = end.text; turns.push({ role: "assistant", content: end.text }); }
    else turns.pop();
  } else if (last.mode === "prompt") {
    const turn = say("code", "");
    const tell = (text) => turn.replaceChildren(element("span", "given", last.text), element("span", "new", text));
    tell("");
    const end = await ask({ prompt: last.text }, tell);
    if (end) tell(end.text);
  } else {
    const end = await ask({ text: last.text }, () => {});
    if (end) filled(say("code", ""), last.text, end.text);
  }
}

// What stands around the gaps is known: what lies between is new.
function filled(turn, asked, text) {
  const around = asked.split(/\[MASK(?::\d+)?\]/), parts = [element("span", "given", around[0])];
  let at = around[0].length;
  around.slice(1).forEach((run, k) => {
    const isLast = k === around.length - 2;
    const next = isLast ? text.length - run.length : text.indexOf(run, at);
    parts.push(element("span", "new", text.slice(at, next)), element("span", "given", run));
    at = next + run.length;
  });
  turn.replaceChildren(...parts);
}

function again() {
  sample += 1;
  if (last.mode === "chat") { turns.pop(); $("log").lastElementChild?.remove(); }
  write();
}

// ---- gaps by selecting text ----

async function gapOf(text) {
  const headers = { "content-type": "application/json", ...keyHeader() };
  const body = JSON.stringify({ content: text, bos: false });
  const response = await fetch("/tokenize", { method: "POST", headers, body });
  return `[MASK:${Math.max(1, (await response.json()).count)}]`;
}

async function makeGap() {
  const box = $("input"), [from, to] = [box.selectionStart, box.selectionEnd];
  if (from === to) { $("note").textContent = "select a part of the text first"; return; }
  $("note").textContent = "";
  box.setRangeText(await gapOf(box.value.slice(from, to)), from, to, "end");
}

function selectedIn() {
  const selection = getSelection();
  const turn = selection.anchorNode?.parentElement?.closest(".turn.code");
  if (!turn || selection.isCollapsed || !turn.contains(selection.focusNode)) return null;
  const range = selection.getRangeAt(0), before = document.createRange();
  before.selectNodeContents(turn);
  before.setEnd(range.startContainer, range.startOffset);
  const from = before.toString().length;
  return { text: turn.textContent, from, to: from + range.toString().length };
}

async function refill() {
  const { text, from, to } = selectedIn();
  const asked = text.slice(0, from) + (await gapOf(text.slice(from, to))) + text.slice(to);
  choose("text");
  $("input").value = asked;
  send();
}

// ---- traces ----

function save() {
  const lines = run.steps.flatMap((step) => step.commits).map((c) => JSON.stringify(c) + "\n");
  const link = element("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = "trace.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function load(file) {
  try {
    const lines = (await file.text()).split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
    const first = lines[0].prompt;
    run = { steps: stepsOfTrace(lines.filter((line) => line.prompt === first)), seconds: null };
    halt();
    show(run.steps.length);
  } catch { say("error", `${file.name} is no trace of illada`); }
}

// ---- the page ----

function keyHeader() {
  const key = sessionStorage.getItem("key");
  return key ? { authorization: `Bearer ${key}` } : {};
}

function choose(next) {
  mode = next;
  for (const button of $("modes").children) button.classList.toggle("on", button.dataset.mode === mode);
  $("gap").hidden = mode !== "text";
  $("refill").hidden = mode === "chat";
  if (!$("log").children.length || document.querySelector(".hint")) $("log").replaceChildren(element("p", "hint", HINTS[mode]));
  $("input").placeholder = { chat: "Message", prompt: "Beginning of a text", text: "A text with [MASK:12] or [MASK]" }[mode];
}

function control(name, input) {
  const label = element("label", "", name.replaceAll("_", " "));
  input.id = name;
  label.append(input);
  $("settings").append(label);
  return label;
}

function buildSettings(defaults, context) {
  for (const [name, min, most, step] of SLIDERS) {
    const input = element("input"), output = element("output");
    const max = ["block_length", "max_new_tokens"].includes(name) ? Math.min(most, context) : most;
    Object.assign(input, { type: "range", min, max, step, value: defaults[name] ?? 0 });
    const tell = () => { output.value = Number(input.value) || name === "temperature" ? input.value : "–"; };
    input.addEventListener("input", tell);
    control(name, input).append(output);
    tell();
  }
  const order = element("select");
  for (const each of ORDERS) order.append(new Option(each, each));
  order.value = defaults.remasking;
  control("remasking", order);
  const seed = Object.assign(element("input"), { type: "number", min: 0, value: defaults.seed });
  control("seed", seed);
}

async function begin() {
  const response = await fetch("/v1/models", { headers: keyHeader() });
  $("key").hidden = response.status !== 401;
  if (!response.ok) return;
  const [model] = (await response.json()).data;
  $("model").textContent = `${model.id} · context ${model.max_model_len.toLocaleString("en")}`;
  buildSettings(model.settings, model.max_model_len);
}

$("modes").addEventListener("click", (event) => event.target.dataset.mode && choose(event.target.dataset.mode));
$("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && mode === "chat") { event.preventDefault(); send(); }
});
$("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value); begin(); });
$("again").addEventListener("click", again);
$("clear").addEventListener("click", () => { turns = []; last = null; $("log").replaceChildren(); choose(mode); busy(false); });
$("gap").addEventListener("click", makeGap);
$("refill").addEventListener("mousedown", (event) => event.preventDefault());
$("refill").addEventListener("click", refill);
document.addEventListener("selectionchange", () => { $("refill").disabled = stopping !== null || !selectedIn(); });
$("scrub").addEventListener("input", () => { halt(); show(Number($("scrub").value)); });
$("play").addEventListener("click", replay);
$("save").addEventListener("click", save);
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => load($("file").files[0]));
$("stage").addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("over"); });
$("stage").addEventListener("dragleave", () => $("stage").classList.remove("over"));
$("stage").addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  load(event.dataTransfer.files[0]);
});
choose("chat");
draw();
begin();
