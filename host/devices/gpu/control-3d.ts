// Commands for three dimensions (virtio 1.4, 5.7.6.8 and 5.7.6.9): numbers are checked here, and what is drawn by the renderer.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { FORMATS } from "../../displays/formats.ts";
import type { Resource } from "../../displays/resource.ts";
import * as message from "../../renderer/messages.ts";
import { RenderedResource } from "../../renderer/rendered.ts";
import { resourceBytes, type Shape } from "../../renderer/resource-size.ts";
import { resourceAt, SIDE_MAX } from "./control.ts";
import type { Call } from "./control-queue.ts";
import { DONE, Refused, type Response } from "./messages.ts";
import type { Rendering } from "./rendering.ts";
import type { Scene } from "./scene.ts";

/** As many as a desktop's programs have; each takes some MiB. */
const CONTEXTS_MAX = 64;
/** Mesa's drivers write 256 KiB at a time. */
const COMMANDS_BYTES_MAX = 2 << 20;
const TEXTURE_2D = 2;
const LEVELS_MAX = 15;
const LAYERS_MAX = 2048;
const SAMPLES_MAX = 32;

type Command3d = (rendering: Rendering, scene: Scene, call: Call) => Promise<Response>;

export const COMMANDS_3D: Readonly<Record<number, Command3d>> = {
  async [spec.VIRTIO_GPU_CMD_CTX_CREATE](rendering, _, { header, request }) {
    const { contextId } = header;
    const length = Math.min(request.u32(), spec.GPU_CONTEXT_NAME_MAX);
    request.u32();
    const name = Buffer.from(request.bytes(spec.GPU_CONTEXT_NAME_MAX)).toString("latin1", 0, length);
    if (contextId === 0 || rendering.contexts.has(contextId))
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
    if (rendering.contexts.size >= CONTEXTS_MAX) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    await rendering.ask(message.CREATE_CONTEXT, [contextId], Buffer.from(name.replace(/[^ -~].*$/s, "")));
    rendering.contexts.add(contextId);
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_CTX_DESTROY](rendering, _, { header }) {
    const context = contextOf(rendering, header.contextId);
    rendering.contexts.delete(context);
    await rendering.ask(message.DESTROY_CONTEXT, [context]);
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE]: (...args) => connect(message.ATTACH_RESOURCE, ...args),
  [spec.VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE]: (...args) => connect(message.DETACH_RESOURCE, ...args),

  async [spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_3D](rendering, scene, { request }) {
    const args = Array.from({ length: 11 }, () => request.u32());
    const [id, target, format, , width, height, depth, layers, lastLevel, samples] = args as number[] & {
      length: 11;
    };
    const shape: Shape = {
      target: target!,
      format: format!,
      width: width!,
      height: height!,
      depth: depth!,
      layers: layers!,
      lastLevel: lastLevel!,
      samples: samples!,
    };
    if (id === 0 || scene.resources.get(id!)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    if (!isShape(shape)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    const shownAs = shape.target === TEXTURE_2D && shape.samples <= 1 ? FORMATS.get(shape.format) : undefined;
    // Once for the renderer, and once to be seen.
    const seen = shownAs ? shape.width * shape.height * spec.GPU_PIXEL_SIZE : 0;
    const byteLength = resourceBytes(shape) + seen;
    if (!scene.resources.hasRoom(byteLength)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    await rendering.ask(message.CREATE_RESOURCE, args);
    scene.resources.add(id!, new RenderedResource(id!, shape, shownAs, byteLength, rendering));
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D]: (...args) => transfer(message.TRANSFER_TO_HOST, ...args),
  [spec.VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D]: (...args) => transfer(message.TRANSFER_FROM_HOST, ...args),

  async [spec.VIRTIO_GPU_CMD_SUBMIT_3D](rendering, _, call) {
    const { request, header } = call;
    const context = contextOf(rendering, header.contextId);
    const byteLength = request.u32();
    request.u32();
    if (byteLength % 4 !== 0 || byteLength > COMMANDS_BYTES_MAX || byteLength > request.left)
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    await rendering.draw(call, message.SUBMIT, [context], request.bytes(byteLength));
    return DONE;
  },
};

async function connect(kind: number, rendering: Rendering, scene: Scene, call: Call): Promise<Response> {
  const context = contextOf(rendering, call.header.contextId);
  const id = call.request.u32();
  // Linux names each resource of a program's to its context, with those for two dimensions, which the renderer has not.
  if (isRendered(resourceAt(scene, id))) await rendering.ask(kind, [context, id]);
  return DONE;
}

async function transfer(kind: number, rendering: Rendering, scene: Scene, call: Call): Promise<Response> {
  const { request } = call;
  const box = Array.from({ length: 6 }, () => request.u32());
  const offset = request.u64();
  const id = request.u32();
  const [level, stride, layerStride] = [request.u32(), request.u32(), request.u32()];
  // A driver that has no context yet draws nothing, but may move pixels.
  const context = call.header.contextId === 0 ? 0 : contextOf(rendering, call.header.contextId);
  const resource = resourceAt(scene, id);
  if (!isRendered(resource)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  if (resource.backing === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
  if (offset > BigInt(resource.backing.byteLength))
    throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
  const words = [id, context, ...box, level, stride, layerStride, ...message.halves(offset)];
  await rendering.draw(call, kind, words);
  return DONE;
}

function isRendered(resource: Resource): boolean {
  return resource instanceof RenderedResource;
}

function contextOf({ contexts }: Rendering, id: number): number {
  if (!contexts.has(id)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
  return id;
}

function isShape({ target, width, height, depth, layers, lastLevel, samples }: Shape): boolean {
  if (target === 0) return width >= 1 && height <= 1 && depth <= 1 && layers <= 1;
  const sides = [width, height].every((side) => side >= 1 && side <= SIDE_MAX);
  return (
    sides && depth <= LAYERS_MAX && layers <= LAYERS_MAX && lastLevel <= LEVELS_MAX && samples <= SAMPLES_MAX
  );
}
