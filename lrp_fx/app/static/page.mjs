// The page: a photograph or the camera goes in, the classes and the map come out. All of it stays here.

import { probabilitiesOf } from "./explainer.mjs";
import { cropped, drawn, heatmap, normalized } from "./pictures.mjs";

const element = (id) => document.getElementById(id);
const settings = await (await fetch("settings.json")).json();
const { crop } = settings.preprocessing;
const SHOWN = 5; // classes
const LARGEST = 40e6; // pixels of a photograph

const waiting = new Map();
const worker = new Worker("worker.mjs", { type: "module" });
worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
};
worker.onerror = () => say("The explainer cannot be started: serve this folder, python -m http.server.");
let runs = 0;

function explain(image, target, share) {
  return new Promise((resolve, reject) => {
    waiting.set(++runs, { resolve, reject });
    worker.postMessage({ id: runs, image, target, share });
  });
}

const state = { pixels: null, input: null, result: null, busy: false, again: false, times: [] };
window.lrpfx = { state, settings, explain }; // for tests, and for the curious

function say(text) {
  element("status").textContent = text;
}

function chosenClass() {
  const text = element("class").value.trim();
  if (!text) return null;
  const index = settings.categories.indexOf(text);
  if (index >= 0) return index;
  const number = Number(text);
  if (Number.isInteger(number) && number >= 0 && number < settings.classes) return number;
  throw new Error(`There is no class “${text}”: choose one from the list, or type its index.`);
}

const nameOf = (index) => settings.categories[index] ?? `class ${index}`;

/** Takes the pixels that the model sees, and explains them. */
function take(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // transparent pixels lie on white
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  state.pixels = cropped(context.getImageData(0, 0, width, height), settings.preprocessing);
  state.input = normalized(state.pixels, settings.preprocessing);
  element("input").getContext("2d").putImageData(new ImageData(state.pixels, crop, crop), 0, 0);
  return update();
}

/** Explains again; calls that come while one runs become one call at its end. */
async function update() {
  if (!state.input) return;
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  try {
    do {
      state.again = false;
      const begin = performance.now();
      const share = Number(element("share").value) / 100;
      const result = await explain(state.input, chosenClass(), share);
      state.result = { ...result, share };
      show(performance.now() - begin);
    } while (state.again);
  } catch (error) {
    say(error.message);
  } finally {
    state.busy = false;
  }
}

function show(milliseconds) {
  const { output, relevance, target } = state.result;
  const probabilities = probabilitiesOf(output, settings.squashing);
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, SHOWN).map((index) => {
    const row = document.createElement("button");
    row.type = "button";
    row.style.setProperty("--part", `${100 * probabilities[index]}%`);
    row.ariaPressed = String(index === target);
    const percent = document.createElement("span");
    percent.textContent = `${(100 * probabilities[index]).toFixed(1)} %`;
    row.append(nameOf(index), percent);
    row.onclick = () => {
      element("class").value = settings.categories[index] ?? String(index);
      update();
    };
    return row;
  });
  element("classes").replaceChildren(...rows);
  const heat = heatmap(relevance, crop * crop);
  const below = element("overlay").checked ? state.pixels : null;
  const picture = new ImageData(drawn(heat, settings.colors, below), crop, crop);
  element("map").getContext("2d").putImageData(picture, 0, 0);
  say(`Explained: ${nameOf(target)}. ${milliseconds.toFixed(0)} ms.`);
}

async function open(file) {
  try {
    const bitmap = await createImageBitmap(file);
    if (bitmap.width * bitmap.height > LARGEST) throw new Error("too large");
    element("class").value = "";
    await take(bitmap, bitmap.width, bitmap.height);
  } catch {
    say("This file holds no picture that the browser can read, or it is too large.");
  }
}

let stream = null;

async function camera() {
  if (stream) {
    stream.getTracks().forEach((track) => track.stop());
    stream = null;
    element("camera").textContent = "Start the camera";
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch {
    say("There is no camera, or the browser may not use it (it wants https or localhost).");
    return;
  }
  element("camera").textContent = "Stop the camera";
  const video = document.createElement("video");
  video.srcObject = stream;
  video.muted = true;
  await video.play();
  // the next frame is taken when the last one is shown, so frames are dropped and never queued
  while (stream) {
    await take(video, video.videoWidth, video.videoHeight);
    const now = performance.now();
    state.times = [...state.times.filter((time) => time > now - 2000), now];
    const span = (now - state.times[0]) / 1000;
    if (span) element("rate").textContent = `${((state.times.length - 1) / span).toFixed(1)} frames/s`;
    await new Promise(requestAnimationFrame);
  }
  element("rate").textContent = "";
}

element("title").textContent = `Why ${settings.name}?`;
element("rules").textContent = settings.composite;
element("names").replaceChildren(
  ...settings.categories.map((name) => Object.assign(document.createElement("option"), { value: name })),
);
for (const id of ["input", "map"]) Object.assign(element(id), { width: crop, height: crop });
element("file").onchange = ({ target }) => target.files[0] && open(target.files[0]);
element("share").oninput = () => {
  element("percent").textContent = `${element("share").value} %`;
  update();
};
element("class").onchange = update;
element("overlay").onchange = () => state.result && show(0);
element("camera").onclick = camera;
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
};
say("Ready: drop a picture, or choose one.");
element("file").disabled = false;
