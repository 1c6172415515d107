// Commands of the cursor's queue (virtio 1.4, 5.7.6.10). The picture is taken when it is set: the resource may change or go.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { pointerOf } from "../../displays/output.ts";
import { whole } from "../../displays/picture.ts";
import type { ChainReader } from "../device.ts";
import { refreshed, scanoutIn } from "./control.ts";
import { DONE, Refused, type Response } from "./messages.ts";
import type { Scene } from "./scene.ts";

const { GPU_CURSOR_SIDE: SIDE } = spec;

export async function moveCursor(type: number, scene: Scene, request: ChainReader): Promise<Response> {
  const isUpdate = type === spec.VIRTIO_GPU_CMD_UPDATE_CURSOR;
  if (!isUpdate && type !== spec.VIRTIO_GPU_CMD_MOVE_CURSOR)
    throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
  const output = scene.display.outputs[scanoutIn(scene, request)]!;
  const place = { x: request.u32(), y: request.u32() };
  request.u32();
  if (isUpdate) output.point(place, await pointerIn(scene, request));
  else output.move(place);
  scene.display.wake();
  return DONE;
}

async function pointerIn(scene: Scene, request: ChainReader) {
  const [id, hotX, hotY] = [request.u32(), request.u32(), request.u32()];
  // Linux hides a cursor so.
  if (id === 0) return undefined;
  const resource = scene.resources.get(id);
  if (resource === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  if (!scene.keepsPixels) return undefined;
  // Others are no pointers, and need not be drawn.
  if (!resource.isPicture || resource.width !== SIDE || resource.height !== SIDE)
    throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
  await refreshed(scene, id, whole(resource));
  // Linux has pointers with alpha in resources whose format has none.
  const format = { ...resource.format, isOpaque: false };
  const pointer = pointerOf(resource.part(whole(resource), format), hotX, hotY);
  if (pointer === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
  return pointer;
}
