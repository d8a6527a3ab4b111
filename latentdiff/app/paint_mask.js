// Paint the part of an image that is to be filled. The value is {picture, width, height, mask}: the picture's address,
// its size in pixels, and a 0 or 1 for each pixel, row by row. With the keyboard, arrows move the brush and space paints.
const canvas = element.querySelector('canvas');
const size = element.querySelector('input');
const context = canvas.getContext('2d');
const picture = new Image();
let width = 0, height = 0, scale = 1, mask = [], brush = null, painting = false, shown = null;

const redraw = () => {
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (picture.naturalWidth) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.fillStyle = 'rgba(225, 95, 30, .72)';
  mask.forEach((on, i) => { if (on) context.fillRect((i % width) * scale, Math.floor(i / width) * scale, scale, scale); });
  if (brush) {
    context.strokeStyle = '#e15f1e';
    context.lineWidth = 2;
    context.beginPath();
    context.arc((brush.x + .5) * scale, (brush.y + .5) * scale, radius() * scale, 0, 7);
    context.stroke();
  }
};
const radius = () => Number(size.value) * width / 28;
const paint = (x, y) => {
  const r = radius();
  for (let v = 0; v < height; v++) for (let u = 0; u < width; u++)
    if ((u - x) ** 2 + (v - y) ** 2 <= r * r) mask[v * width + u] = 1;
  redraw();
};
const tell = () => { props.value = { ...props.value, mask: mask.join('') }; };
const place = event => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * width - .5, (event.clientY - box.top) / box.height * height - .5];
};
const clear = () => { mask = new Array(width * height).fill(0); redraw(); };
const show = () => {
  const value = props.value;
  if (!value || !value.picture) return;
  if (value.picture === shown) {
    // The same picture again, from a server that was slow: what has been painted since is not lost.
    if (mask.includes(1) && value.mask !== mask.join('')) tell();
    return;
  }
  ({ width, height } = value);
  shown = value.picture;
  scale = Math.max(1, Math.floor(448 / Math.max(width, height)));
  canvas.width = width * scale;
  canvas.height = height * scale;
  picture.src = shown;
  brush = null;
  clear();
};
picture.onload = redraw;
canvas.addEventListener('pointerdown', event => {
  if (!width) return;
  painting = true;
  brush = null;
  canvas.setPointerCapture(event.pointerId);
  paint(...place(event));
});
canvas.addEventListener('pointermove', event => { if (painting) paint(...place(event)); });
const stop = () => { if (painting) { painting = false; tell(); } };
canvas.addEventListener('pointerup', stop);
canvas.addEventListener('pointercancel', stop);
canvas.addEventListener('keydown', event => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!width || !(event.key in moves || event.key === ' ')) return;
  event.preventDefault();
  brush ??= { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  if (event.key === ' ') { paint(brush.x, brush.y); tell(); return; }
  const [dx, dy] = moves[event.key];
  brush = { x: Math.min(width - 1, Math.max(0, brush.x + dx)), y: Math.min(height - 1, Math.max(0, brush.y + dy)) };
  redraw();
});
element.querySelector('button').addEventListener('click', () => { clear(); tell(); });
watch('value', show);
show();
