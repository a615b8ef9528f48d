// The page: pictures come in, boxes are drawn, filters choose, labels go out.

import { css, draw } from "./drawing.js";
import { Live } from "./live.js";
import { ask, detect } from "./server.js";

const AT_ONCE = 4; // pictures being detected on
const element = (id) => document.getElementById(id);

let model = null; // classes, colours, limits
let pictures = []; // { name, blob, url, width, height, detections }
let current = null;
let live = null;
const hidden = new Set(); // labels of classes
const waiting = [];
let working = 0;

function say(text) {
  element("status").textContent = text;
}

// One question at a time, however many requests wait for its answer.
let asking = null;
function access() {
  asking ??= new Promise((resolve) => {
    const dialog = element("access");
    element("login").onsubmit = (event) => {
      event.preventDefault();
      dialog.close();
      asking = null;
      resolve(element("token").value);
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
  return asking;
}

const least = () => Number(element("score").value);
const chosen = (detections) => detections.filter(
  (each) => each.score >= least() && !hidden.has(each.label),
);

// --- showing -------------------------------------------------------------------------------

let shownBitmap = null; // { picture, bitmap }

async function show() {
  element("viewer").hidden = !live && !pictures.length;
  element("live").hidden = !live;
  element("remove").disabled = live !== null || current === null;
  for (const button of element("download").children) {
    button.disabled = !pictures.some((each) => each.detections);
  }
  if (live) {
    live.redraw();
  } else if (current) {
    const picture = current;
    if (shownBitmap?.picture !== picture) {
      const bitmap = await createImageBitmap(picture.blob);
      if (picture !== current || live) {
        bitmap.close();
        return;
      }
      shownBitmap?.bitmap.close();
      shownBitmap = { picture, bitmap };
    }
    present(shownBitmap.bitmap, picture.width, picture.height, picture.detections ?? []);
  } else {
    tell([]);
  }
}

function present(source, width, height, detections) {
  const shown = chosen(detections);
  draw(element("canvas"), source, width, height, shown, model.colours);
  element("canvas").setAttribute("aria-label", `${live ? "The video" : current.name}: `
    + `${shown.length} detections`);
  tell(detections);
}

function tell(detections) {
  const shown = chosen(detections);
  element("count").textContent = shown.length;
  element("found").replaceChildren(...shown.map((each) => {
    const row = document.createElement("tr");
    const box = each.box.map((value) => value.toFixed(0)).join(", ");
    for (const text of [each.name, each.score.toFixed(2), box]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
  const counts = new Map();
  for (const each of detections.filter((one) => one.score >= least())) {
    counts.set(each.label, (counts.get(each.label) ?? 0) + 1);
  }
  for (const row of element("classes").children) {
    row.querySelector(".count").textContent = counts.get(Number(row.dataset.label)) ?? 0;
  }
}

function listClasses() {
  element("classes").replaceChildren(...model.classes.map((name, label) => {
    const row = document.createElement("li");
    row.dataset.label = label;
    const holder = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => {
      hidden[box.checked ? "delete" : "add"](label);
      show();
    };
    const colour = document.createElement("canvas");
    [colour.width, colour.height] = [14, 14];
    const context = colour.getContext("2d");
    context.fillStyle = css(model.colours[label]);
    context.fillRect(0, 0, 14, 14);
    const text = document.createElement("span");
    text.textContent = name;
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = "0";
    holder.append(box, colour, text, count);
    row.append(holder);
    return row;
  }));
}

function listPictures() {
  element("pictures").replaceChildren(...pictures.map((picture) => {
    const row = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-current", picture === current);
    const image = document.createElement("img");
    image.src = picture.url;
    image.alt = "";
    const text = document.createElement("span");
    text.textContent = picture.name;
    button.append(image, text);
    button.onclick = () => select(picture);
    row.append(button);
    return row;
  }));
}

function select(picture) {
  endLive();
  current = picture;
  for (const [index, row] of [...element("pictures").children].entries()) {
    row.firstChild.setAttribute("aria-current", pictures[index] === current);
  }
  return show().catch((error) => say(error.message));
}

// --- pictures in ---------------------------------------------------------------------------

async function add(files) {
  for (const file of files) {
    if (file.type.startsWith("video/")) {
      play(file);
    } else {
      await addPicture(file.name || "pasted.png", file);
    }
  }
}

async function addPicture(name, blob) {
  let size;
  try {
    const bitmap = await createImageBitmap(blob); // turned as its EXIF data say, as on the server
    size = { width: bitmap.width, height: bitmap.height };
    bitmap.close();
  } catch {
    say(`${name}: this browser cannot show it.`);
    return;
  }
  const picture = { name, blob, url: URL.createObjectURL(blob), ...size, detections: null };
  pictures.push(picture);
  current ??= picture;
  listPictures();
  waiting.push(picture);
  work();
  await show();
}

function work() {
  while (working < AT_ONCE && waiting.length) {
    working += 1;
    detectOn(waiting.shift()).finally(() => {
      working -= 1;
      work();
    });
  }
}

async function detectOn(picture) {
  say(`Detecting in ${picture.name} ...`);
  try {
    picture.detections = await detect(picture.name, picture.blob, access);
    say(`${picture.name}: done.`);
  } catch (error) {
    say(error.message);
  }
  await show();
}

function removeCurrent() {
  const index = pictures.indexOf(current);
  URL.revokeObjectURL(current.url);
  pictures = pictures.filter((each) => each !== current);
  current = pictures[Math.min(index, pictures.length - 1)] ?? null;
  listPictures();
  return show();
}

// --- videos and the camera -----------------------------------------------------------------

function newVideo() {
  endLive();
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}

async function start(video, loop) {
  video.loop = loop;
  try {
    await video.play();
  } catch {
    say("This browser cannot play the video.");
    return;
  }
  const seeks = Number.isFinite(video.duration);
  element("seek").hidden = !seeks;
  element("seek").max = seeks ? video.duration : 1;
  element("play").textContent = "Pause";
  video.ontimeupdate = () => { element("seek").value = video.currentTime; };
  live = new Live(
    video,
    (blob) => detect("frame.jpg", blob, access),
    (source, found) => present(source, source.videoWidth, source.videoHeight, found),
    (error) => say(error.message),
  );
  await show();
}

function play(file) {
  const video = newVideo();
  video.src = URL.createObjectURL(file);
  say(file.name);
  return start(video, true);
}

async function useCamera() {
  if (!navigator.mediaDevices) {
    say("Browsers give the camera to pages from https and from localhost alone.");
    return;
  }
  const video = newVideo();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`);
    return;
  }
  say("Camera");
  await start(video, false);
}

function endLive() {
  live?.end();
  live = null;
}

async function pauseOrPlay() {
  if (live.video.paused) {
    await live.video.play();
  } else {
    live.video.pause();
  }
  element("play").textContent = live.video.paused ? "Play" : "Pause";
}

async function keepFrame() {
  const time = live.video.currentTime.toFixed(2);
  const [blob] = await live.capture("image/png", Infinity);
  await addPicture(`frame-${time}s.png`, blob);
}

// --- labels out ----------------------------------------------------------------------------

async function download(format) {
  const done = pictures.filter((each) => each.detections);
  const rows = done.map((each) => ({ image: each.name, detections: chosen(each.detections) }));
  if (format === "json") {
    save(new Blob([`${JSON.stringify(rows, null, 2)}\n`], { type: "application/json" }),
      "detections.json");
    return;
  }
  const bytes = done.reduce((sum, each) => sum + each.blob.size, 0);
  // Some room for the labels themselves.
  const fits = done.length <= model.limits.pictures && bytes < 0.8 * model.limits.bytes;
  const body = new FormData();
  body.append("format", format);
  body.append("labels", JSON.stringify(rows.map((row, index) => (
    { ...row, width: done[index].width, height: done[index].height }
  ))));
  if (fits) {
    done.forEach((each) => body.append("images", each.blob, each.name));
  }
  const answer = await ask("v1/labels", { method: "POST", body }, access);
  save(await answer.blob(), `labels-${format}.zip`);
  const notes = decodeURIComponent(answer.headers.get("Frcnn-Notes") ?? "");
  say(fits ? notes : `The pictures are too many to be in the file: add them yourself. ${notes}`);
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- events --------------------------------------------------------------------------------

function on(id, event, action) {
  element(id).addEventListener(event, async (given) => {
    try {
      await action(given);
    } catch (error) {
      say(error.message);
    }
  });
}

function listen() {
  on("choose", "click", () => element("files").click());
  on("files", "change", async () => {
    await add([...element("files").files]);
    element("files").value = "";
  });
  on("camera", "click", useCamera);
  on("play", "click", pauseOrPlay);
  on("seek", "input", () => { live.video.currentTime = element("seek").value; });
  on("keep", "click", keepFrame);
  on("end", "click", () => { endLive(); return show(); });
  on("remove", "click", removeCurrent);
  on("score", "input", () => {
    element("least").textContent = least().toFixed(2);
    return show();
  });
  for (const [id, checked] of [["all", true], ["none", false]]) {
    on(id, "click", () => {
      for (const row of element("classes").children) {
        row.querySelector("input").checked = checked;
        hidden[checked ? "delete" : "add"](Number(row.dataset.label));
      }
      return show();
    });
  }
  for (const button of element("download").children) {
    button.addEventListener("click", () => {
      download(button.value).catch((error) => say(error.message));
    });
  }
  for (const event of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(event, (given) => {
      given.preventDefault();
      element("drop").classList.toggle("over", event === "dragover");
    });
  }
  document.addEventListener("drop", (given) => add([...given.dataTransfer.files]));
  document.addEventListener("paste", (given) => add([...given.clipboardData.files]));
}

async function begin() {
  try {
    model = await (await ask("v1/model", {}, access)).json();
  } catch (error) {
    say(`The server cannot be reached: ${error.message}`);
    return;
  }
  listClasses();
  listen();
  say(`Ready: ${model.classes.length} classes.`);
}

begin();
