// Drawing HU on canvases, with the mark in the picture itself, so that it goes along when the picture is copied.

export const SYNTHETIC = ["SYNTHETIC", "research use only"];

const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135],
  [252, 253, 191]];

const between = (first, second, share) => first.map((value, index) => value + share * (second[index] - value));

// Colours of HU: grey in a window; magma from 0 to a limit; blue, black, orange from -limit to limit.
export const grey = (level, width) => value => {
  const shade = 255 * Math.min(1, Math.max(0, (value - level + width / 2) / width));
  return [shade, shade, shade];
};
export const magma = limit => value => {
  const place = Math.min(0.9999, Math.max(0, value / limit)) * (MAGMA.length - 1);
  return between(MAGMA[Math.floor(place)], MAGMA[Math.floor(place) + 1], place % 1);
};
export const diverging = limit => value => {
  const share = Math.min(1, Math.abs(value) / limit);
  return between([0, 0, 0], value < 0 ? [90, 180, 255] : [255, 154, 74], share);
};

// An image of numbers, rows first, as a canvas of the same size.
export function pixels(values, columns, rows, colour) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let index = 0; index < values.length; index++) {
    const [red, green, blue] = colour(values[index]);
    image.data.set([red, green, blue, 255], 4 * index);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// White letters with a black edge, legible on any image.
export function write(context, text, x, y, size, align = "center") {
  Object.assign(context, { font: `bold ${size}px system-ui, sans-serif`, textAlign: align, lineJoin: "round" });
  Object.assign(context, { lineWidth: size / 5, strokeStyle: "black", fillStyle: "white" });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

export function bar(context, pixelsPerMm, size) {
  const length = 10 * pixelsPerMm;
  Object.assign(context, { lineWidth: 3, strokeStyle: "black", fillStyle: "white" });
  context.strokeRect(10, 10, length, 3);
  context.fillRect(10, 10, length, 3);
  write(context, "10 mm", 10 + length / 2, 16 + size, size);
}

// A tile: an image several times as large, with a scale, and with the mark where it is synthetic.
export function tile(canvas, values, side, pixelMm, colour, marks) {
  const scale = Math.ceil(320 / side);
  Object.assign(canvas, { width: side * scale, height: side * scale });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(pixels(values, side, side, colour), 0, 0, canvas.width, canvas.height);
  bar(context, scale / pixelMm, 17);
  marks.forEach((text, index) => {
    write(context, text, canvas.width / 2, canvas.height - 10 - 22 * (marks.length - 1 - index), index ? 17 : 22);
  });
}
