// Commands of the control queue (virtio 1.4, 5.7.6.8): each is checked against what there is before anything is done.
import { setImmediate as nextTurn } from "node:timers/promises";
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { Backing } from "../../displays/backing.ts";
import { FORMATS } from "../../displays/formats.ts";
import { whole } from "../../displays/picture.ts";
import { isEmpty, liesWithin, type Rect } from "../../displays/rect.ts";
import { Resource } from "../../displays/resource.ts";
import type { ChainReader, DeviceMemory } from "../device.ts";
import { DONE, Refused, type Response, readRect } from "./messages.ts";
import type { Scene } from "./scene.ts";

/** As many pixels as drivers ever have in a row, and as many ranges as Linux ever makes of a picture. */
export const SIDE_MAX = 16384;
const RANGES_MAX = 16384;

type Command = (scene: Scene, request: ChainReader, memory: DeviceMemory) => Response | Promise<Response>;

export const COMMANDS: Readonly<Record<number, Command>> = {
  [spec.VIRTIO_GPU_CMD_GET_DISPLAY_INFO]: async (scene) => ({
    type: spec.VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
    body: await scene.displayInfo(),
  }),

  async [spec.VIRTIO_GPU_CMD_GET_EDID](scene, request) {
    const body = await scene.edid(scanoutIn(scene, request));
    if (body === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
    return { type: spec.VIRTIO_GPU_RESP_OK_EDID, body };
  },

  [spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D](scene, request) {
    const [id, number, width, height] = [request.u32(), request.u32(), request.u32(), request.u32()];
    if (id === 0 || scene.resources.get(id)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
    const format = FORMATS.get(number);
    const isSize = (side: number) => side >= 1 && side <= SIDE_MAX;
    if (format === undefined || !isSize(width) || !isSize(height))
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    if (!scene.resources.hasRoom(width * height * spec.GPU_PIXEL_SIZE))
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    scene.resources.add(id, new Resource(width, height, format, scene.keepsPixels));
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_RESOURCE_UNREF](scene, request) {
    const id = request.u32();
    const resource = resourceAt(scene, id);
    scene.forget(resource);
    scene.resources.remove(id);
    await resource.release();
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_SET_SCANOUT](scene, request) {
    const area = readRect(request);
    const scanout = scanoutIn(scene, request);
    const id = request.u32();
    if (id === 0) scene.show(scanout, undefined);
    else {
      const resource = resourceAt(scene, id);
      if (area.width === 0 || area.height === 0 || !liesWithin(area, resource) || !resource.isPicture)
        throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
      await refreshed(scene, id, whole(resource));
      scene.show(scanout, { resource, area });
    }
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_RESOURCE_FLUSH](scene, request) {
    const rect = readRect(request);
    const id = request.u32();
    const resource = resourceAt(scene, id);
    if (!liesWithin(rect, resource)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    if (scene.shows(resource) && !isEmpty(rect)) await refreshed(scene, id, rect);
    scene.flush(resource, rect);
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D](scene, request) {
    const rect = readRect(request);
    const offset = request.u64();
    const resource = resourceAt(scene, request.u32());
    if (resource.backing === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
    const room = BigInt(resource.backing.byteLength - resource.reachOf(rect));
    if (!liesWithin(rect, resource) || offset > room)
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    await resource.transfer(rect, Number(offset), nextTurn);
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING](scene, request, memory) {
    const resource = resourceAt(scene, request.u32());
    if (resource.backing) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
    const count = request.u32();
    if (count > RANGES_MAX || count * spec.GPU_MEM_ENTRY_SIZE > request.left)
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    const entries = request.bytes(count * spec.GPU_MEM_ENTRY_SIZE);
    const backing = new Backing(memory, entries);
    if (!scene.resources.attach(resource, backing)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    await resource.backingChanged(entries);
    return DONE;
  },

  async [spec.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING](scene, request) {
    const resource = resourceAt(scene, request.u32());
    scene.resources.detach(resource);
    await resource.backingChanged();
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_GET_CAPSET_INFO](scene, request) {
    const capset = scene.capsets[request.u32()];
    if (capset === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    const body = Buffer.from(new Uint32Array([capset.id, capset.version, capset.bytes.length, 0]).buffer);
    return { type: spec.VIRTIO_GPU_RESP_OK_CAPSET_INFO, body };
  },

  // Mesa asks for version 0, and takes what it gets.
  [spec.VIRTIO_GPU_CMD_GET_CAPSET](scene, request) {
    const [id, version] = [request.u32(), request.u32()];
    const capset = scene.capsets.find((each) => each.id === id && version <= each.version);
    if (capset === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    return { type: spec.VIRTIO_GPU_RESP_OK_CAPSET, body: capset.bytes };
  },
};

/** What is to be seen of it has been drawn, and it is still there. */
export async function refreshed(scene: Scene, id: number, rect: Rect): Promise<void> {
  const resource = resourceAt(scene, id);
  await resource.refresh(rect);
  if (scene.resources.get(id) !== resource) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

export function resourceAt(scene: Scene, id: number): Resource {
  const resource = scene.resources.get(id);
  if (resource === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  return resource;
}

export function scanoutIn(scene: Scene, request: ChainReader): number {
  const scanout = request.u32();
  if (scanout >= scene.scanoutCount) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
  return scanout;
}
