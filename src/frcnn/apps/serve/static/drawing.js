// Boxes, names and scores on a canvas; what draw.py does in pictures.

const LONGEST = 2048; // pixels of a side that is drawn

export function css(colour) {
  return `rgb(${colour.join(" ")})`;
}

// Draws a picture or a frame of a video with detections in its own pixels.
export function draw(canvas, source, width, height, detections, colours) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const size = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) {
    [canvas.width, canvas.height] = size;
  }
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, ...size);
  const line = Math.max(2, Math.ceil(Math.min(...size) / 200));
  // The least confident first, so that the most confident end up on top.
  for (const found of [...detections].reverse()) {
    drawBox(context, found.box.map((value) => value * scale), css(colours[found.label]), line);
  }
  for (const found of [...detections].reverse()) {
    drawText(context, found, scale, colours[found.label], size);
  }
}

function drawBox(context, [x1, y1, x2, y2], colour, line) {
  context.strokeStyle = colour;
  context.lineWidth = line;
  // The line lies inside the box, so that its outer edge is the box.
  const inside = line / 2;
  const [wide, high] = [Math.max(x2 - x1 - line, 1), Math.max(y2 - y1 - line, 1)];
  context.strokeRect(x1 + inside, y1 + inside, wide, high);
}

function drawText(context, found, scale, colour, [width, height]) {
  const text = `${found.name} ${found.score.toFixed(2)}`;
  const pixels = Math.max(11, Math.round(Math.min(width, height) / 36));
  context.font = `${pixels}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const wide = context.measureText(text).width + 6;
  const high = pixels + 6;
  const x = Math.max(0, Math.min(found.box[0] * scale, width - wide));
  const above = found.box[1] * scale - high;
  const y = above >= 0 ? above : Math.min(found.box[1] * scale, height - high);
  context.fillStyle = css(colour);
  context.fillRect(x, y, wide, high);
  context.fillStyle = isLight(colour) ? "black" : "white";
  context.fillText(text, x + 3, y + 3);
}

// By the relative luminance (Rec. 709 on sRGB).
function isLight(colour) {
  const [red, green, blue] = colour.map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18;
}
