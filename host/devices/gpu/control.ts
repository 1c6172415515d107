// Commands of the control queue (virtio 1.4, 5.7.6.8): each is checked against what there is before anything is done.
import { setImmediate as nextTurn } from "node:timers/promises";
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { Backing } from "../../displays/backing.ts";
import { FORMATS } from "../../displays/formats.ts";
import { liesWithin } from "../../displays/rect.ts";
import { Resource } from "../../displays/resource.ts";
import type { ChainReader, DeviceMemory } from "../device.ts";
import { DONE, Refused, type Response, readRect } from "./messages.ts";
import type { Scene } from "./scene.ts";

/** As many pixels as drivers ever have in a row, and as many ranges as Linux ever makes of a picture. */
const SIDE_MAX = 16384;
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

  [spec.VIRTIO_GPU_CMD_RESOURCE_UNREF](scene, request) {
    const id = request.u32();
    scene.forget(resourceAt(scene, id));
    scene.resources.remove(id);
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_SET_SCANOUT](scene, request) {
    const area = readRect(request);
    const scanout = scanoutIn(scene, request);
    const id = request.u32();
    if (id === 0) scene.show(scanout, undefined);
    else {
      const resource = resourceAt(scene, id);
      if (area.width === 0 || area.height === 0 || !liesWithin(area, resource))
        throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
      scene.show(scanout, { resource, area });
    }
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_RESOURCE_FLUSH](scene, request) {
    const rect = readRect(request);
    const resource = resourceAt(scene, request.u32());
    if (!liesWithin(rect, resource)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
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

  [spec.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING](scene, request, memory) {
    const resource = resourceAt(scene, request.u32());
    if (resource.backing) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
    const count = request.u32();
    if (count > RANGES_MAX || count * spec.GPU_MEM_ENTRY_SIZE > request.left)
      throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
    const backing = new Backing(memory, request.bytes(count * spec.GPU_MEM_ENTRY_SIZE));
    if (!scene.resources.attach(resource, backing)) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
    return DONE;
  },

  [spec.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING](scene, request) {
    scene.resources.detach(resourceAt(scene, request.u32()));
    return DONE;
  },

  // num_capsets is 0, so no index and no id is one.
  [spec.VIRTIO_GPU_CMD_GET_CAPSET_INFO]: refuseCapset,
  [spec.VIRTIO_GPU_CMD_GET_CAPSET]: refuseCapset,
};

function refuseCapset(): never {
  throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

function resourceAt(scene: Scene, id: number): Resource {
  const resource = scene.resources.get(id);
  if (resource === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  return resource;
}

export function scanoutIn(scene: Scene, request: ChainReader): number {
  const scanout = request.u32();
  if (scanout >= scene.scanoutCount) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
  return scanout;
}
