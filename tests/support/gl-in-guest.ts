// What runs in a guest with a graphics card for three dimensions: draws by the guest's own Mesa into a buffer that its screen shows. Tells
// who has drawn, and lets the test outside look after each picture.
import { closeSync, openSync } from "node:fs";
import koffi from "koffi";
import { viewOf } from "../../host/linux/libc.ts";
import { FRAMES, type Frame, frameSize } from "./gl-frames.ts";
import { letOutside, report } from "./in-guest.ts";

const declareFrom = (name: string) => {
  const library = koffi.load(name);
  return (prototype: string) => library.func(prototype);
};

const gbm = declareFrom("libgbm.so.1");
const createDevice = gbm("uintptr_t gbm_create_device(int fd)");
const createBuffer = gbm(
  "uintptr_t gbm_bo_create(uintptr_t device, uint32_t width, uint32_t height, uint32_t format, uint32_t flags)",
);
const strideOf = gbm("uint32_t gbm_bo_get_stride(uintptr_t buffer)");
/** A union of 64 bits, in which the driver's handle is the lower half. */
const handleOf = gbm("uint64_t gbm_bo_get_handle(uintptr_t buffer)");
const XRGB8888 = 0x34325258;
const SCANOUT_AND_RENDERING = 1 | 4;

const egl = declareFrom("libEGL.so.1");
const getDisplay = egl(
  "uintptr_t eglGetPlatformDisplay(uint32_t platform, uintptr_t device, uintptr_t attributes)",
);
const initialize = egl("uint32_t eglInitialize(uintptr_t display, uintptr_t major, uintptr_t minor)");
const bindApi = egl("uint32_t eglBindAPI(uint32_t api)");
const createContext = egl(
  "uintptr_t eglCreateContext(uintptr_t display, uintptr_t config, uintptr_t share, void *attributes)",
);
const makeCurrent = egl(
  "uint32_t eglMakeCurrent(uintptr_t display, uintptr_t draw, uintptr_t read, uintptr_t context)",
);
const createImage = egl(
  "uintptr_t eglCreateImage(uintptr_t display, uintptr_t context, uint32_t target, uintptr_t buffer, uintptr_t attributes)",
);
const procAddress = egl("void *eglGetProcAddress(const char *name)");
const PLATFORM_GBM = 0x31d7;
const OPENGL_ES_API = 0x30a0;
const CONTEXT_CLIENT_VERSION = 0x3098;
const NONE = 0x3038;
const NATIVE_PIXMAP = 0x30b0;

const gl = declareFrom("libGLESv2.so.2");
const getString = gl("const char *glGetString(uint32_t name)");
const genRenderbuffers = gl("void glGenRenderbuffers(int count, void *names)");
const bindRenderbuffer = gl("void glBindRenderbuffer(uint32_t target, uint32_t name)");
const genFramebuffers = gl("void glGenFramebuffers(int count, void *names)");
const bindFramebuffer = gl("void glBindFramebuffer(uint32_t target, uint32_t name)");
const framebufferRenderbuffer = gl(
  "void glFramebufferRenderbuffer(uint32_t target, uint32_t attachment, uint32_t of, uint32_t name)",
);
const checkFramebuffer = gl("uint32_t glCheckFramebufferStatus(uint32_t target)");
const viewport = gl("void glViewport(int x, int y, int width, int height)");
const clearColor = gl("void glClearColor(float red, float green, float blue, float alpha)");
const clear = gl("void glClear(uint32_t mask)");
const createShader = gl("uint32_t glCreateShader(uint32_t type)");
const shaderSource = gl("void glShaderSource(uint32_t shader, int count, void *texts, uintptr_t lengths)");
const compileShader = gl("void glCompileShader(uint32_t shader)");
const createProgram = gl("uint32_t glCreateProgram()");
const attachShader = gl("void glAttachShader(uint32_t program, uint32_t shader)");
const bindAttribute = gl("void glBindAttribLocation(uint32_t program, uint32_t index, const char *name)");
const linkProgram = gl("void glLinkProgram(uint32_t program)");
const useProgram = gl("void glUseProgram(uint32_t program)");
const uniformLocation = gl("int glGetUniformLocation(uint32_t program, const char *name)");
const uniform4f = gl("void glUniform4f(int location, float x, float y, float z, float w)");
const genBuffers = gl("void glGenBuffers(int count, void *names)");
const bindBuffer = gl("void glBindBuffer(uint32_t target, uint32_t name)");
const bufferData = gl("void glBufferData(uint32_t target, intptr_t size, void *data, uint32_t usage)");
const vertexAttribPointer = gl(
  "void glVertexAttribPointer(uint32_t index, int size, uint32_t type, uint8_t normalized, int stride, uintptr_t offset)",
);
const enableAttribute = gl("void glEnableVertexAttribArray(uint32_t index)");
const drawArrays = gl("void glDrawArrays(uint32_t mode, int first, int count)");
const finish = gl("void glFinish()");
const getError = gl("uint32_t glGetError()");
const [RENDERER, RENDERBUFFER, FRAMEBUFFER, COLOR_ATTACHMENT0] = [0x1f01, 0x8d41, 0x8d40, 0x8ce0];
const [FRAMEBUFFER_COMPLETE, COLOR_BUFFER] = [0x8cd5, 0x4000];
const [VERTEX_SHADER, FRAGMENT_SHADER] = [0x8b31, 0x8b30];
const [ARRAY_BUFFER, DYNAMIC_DRAW, FLOAT, TRIANGLE_STRIP] = [0x8892, 0x88e8, 0x1406, 5];

const drm = declareFrom("libdrm.so.2");
const getResources = drm("uintptr_t drmModeGetResources(int fd)");
const getConnector = drm("uintptr_t drmModeGetConnector(int fd, uint32_t connector)");
const addFramebuffer = drm(
  "int drmModeAddFB(int fd, uint32_t width, uint32_t height, uint8_t depth, uint8_t bits, uint32_t stride, uint32_t handle, void *id)",
);
const setCrtc = drm(
  "int drmModeSetCrtc(int fd, uint32_t crtc, uint32_t framebuffer, uint32_t x, uint32_t y, void *connectors, int count, uintptr_t mode)",
);
const dirtyFramebuffer = drm(
  "int drmModeDirtyFB(int fd, uint32_t framebuffer, uintptr_t clips, uint32_t count)",
);

function checked<T>(what: string, result: T, isRight: boolean): T {
  if (!isRight) throw new Error(`${what}: ${result}, and OpenGL says ${getError().toString(16)}`);
  return result;
}

const there = (what: string, address: number) => checked(what, address, address !== 0);

function nameFrom(generate: (count: number, names: Uint32Array) => void): number {
  const names = new Uint32Array(1);
  generate(1, names);
  return names[0]!;
}

/** The card, with a context of OpenGL ES 2 that is current. */
function openCard() {
  const fd = openSync("/dev/dri/card0", "r+");
  const device = there("gbm_create_device", createDevice(fd));
  const display = there("eglGetPlatformDisplay", getDisplay(PLATFORM_GBM, device, 0));
  checked("eglInitialize", 0, initialize(display, 0, 0) === 1);
  bindApi(OPENGL_ES_API);
  const attributes = Buffer.from(new Int32Array([CONTEXT_CLIENT_VERSION, 2, NONE]).buffer);
  const context = there("eglCreateContext", createContext(display, 0, 0, attributes));
  checked("eglMakeCurrent", 0, makeCurrent(display, 0, 0, context) === 1);
  return { fd, device, display };
}

/** What is drawn from here on is in the buffer. */
function drawInto(display: number, buffer: number): void {
  const image = there("eglCreateImage", createImage(display, 0, NATIVE_PIXMAP, buffer, 0));
  const type = koffi.proto("void ImageTarget(uint32_t target, uintptr_t image)");
  const imageTarget = koffi.decode(procAddress("glEGLImageTargetRenderbufferStorageOES"), type);
  bindRenderbuffer(RENDERBUFFER, nameFrom(genRenderbuffers));
  imageTarget(RENDERBUFFER, image);
  bindFramebuffer(FRAMEBUFFER, nameFrom(genFramebuffers));
  framebufferRenderbuffer(FRAMEBUFFER, COLOR_ATTACHMENT0, RENDERBUFFER, 1);
  const status = checkFramebuffer(FRAMEBUFFER);
  checked("glCheckFramebufferStatus", status, status === FRAMEBUFFER_COMPLETE);
}

/** By which rectangles are drawn in one colour. Returns where the colour goes. */
function prepare(): number {
  const program = createProgram();
  for (const [type, text] of [
    [VERTEX_SHADER, "attribute vec2 place; void main() { gl_Position = vec4(place, 0.0, 1.0); }"],
    [FRAGMENT_SHADER, "precision highp float; uniform vec4 colour; void main() { gl_FragColor = colour; }"],
  ] as const) {
    const shader = createShader(type);
    const bytes = Buffer.from(`${text}\0`);
    const texts = Buffer.from(new BigUint64Array([BigInt(koffi.address(bytes))]).buffer);
    shaderSource(shader, 1, texts, 0);
    compileShader(shader);
    attachShader(program, shader);
  }
  bindAttribute(program, 0, "place");
  linkProgram(program);
  useProgram(program);
  bindBuffer(ARRAY_BUFFER, nameFrom(genBuffers));
  vertexAttribPointer(0, 2, FLOAT, 0, 0, 0);
  enableAttribute(0);
  return checked("glGetUniformLocation", uniformLocation(program, "colour"), getError() === 0);
}

function draw({ ground, rect, colour }: Frame, where: number): void {
  const { width, height } = frameSize;
  viewport(0, 0, width, height);
  clearColor(...parts(ground), 1);
  clear(COLOR_BUFFER);
  const [left, right] = [rect.x, rect.x + rect.width].map((x) => (x / width) * 2 - 1);
  const [first, last] = [rect.y, rect.y + rect.height].map((y) => (y / height) * 2 - 1);
  const corners = new Float32Array([left!, first!, right!, first!, left!, last!, right!, last!]);
  bufferData(ARRAY_BUFFER, corners.byteLength, Buffer.from(corners.buffer), DYNAMIC_DRAW);
  uniform4f(where, ...parts(colour), 1);
  drawArrays(TRIANGLE_STRIP, 0, 4);
  finish();
  checked("glFinish", 0, getError() === 0);
}

function parts(colour: number): [number, number, number] {
  return [(colour >> 16) / 255, ((colour >> 8) & 255) / 255, (colour & 255) / 255];
}

/** Of the first screen that is connected: drmModeRes has counts and arrays of fbs, crtcs, connectors, each 16 bytes on. */
function show(fd: number, buffer: number): number {
  const { width, height } = frameSize;
  const resources = new DataView(viewOf(there("drmModeGetResources", getResources(fd)), 48));
  const firstOf = (at: number) =>
    new DataView(viewOf(Number(resources.getBigUint64(at, true)), 4)).getUint32(0, true);
  const [crtc, connector] = [firstOf(24), firstOf(40)];
  // drmModeConnector: count_modes is at 32, and the modes, of which the preferred is the first, behind it.
  const screen = new DataView(viewOf(there("drmModeGetConnector", getConnector(fd, connector)), 48));
  const mode = Number(screen.getBigUint64(40, true));
  const id = Buffer.alloc(4);
  const handle = Number(BigInt(handleOf(buffer)) & 0xffffffffn);
  const added = addFramebuffer(fd, width, height, 24, 32, strideOf(buffer), handle, id);
  checked("drmModeAddFB", added, added === 0);
  const connectors = Buffer.from(new Uint32Array([connector]).buffer);
  const set = setCrtc(fd, crtc, id.readUInt32LE(), 0, 0, connectors, 1, mode);
  checked("drmModeSetCrtc", set, set === 0);
  return id.readUInt32LE();
}

const { fd, device, display } = openCard();
report("RENDERER", String(getString(RENDERER)));
const { width, height } = frameSize;
const buffer = there("gbm_bo_create", createBuffer(device, width, height, XRGB8888, SCANOUT_AND_RENDERING));
drawInto(display, buffer);
const where = prepare();
let shown: number | undefined;
for (const [i, frame] of FRAMES.entries()) {
  draw(frame, where);
  if (shown === undefined) shown = show(fd, buffer);
  else dirtyFramebuffer(fd, shown, 0, 0);
  await letOutside(`DRAWN${i}`);
}
closeSync(fd);
process.exit();
