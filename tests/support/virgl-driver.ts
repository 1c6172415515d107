// The driver of a GPU device that draws in three dimensions: commands with contexts.
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import type { Posted } from "./chain-driver.ts";
import { type Answer, type Area, type connectGpu, GpuDriver, words } from "./gpu-driver.ts";

type ConnectOptions = NonNullable<Parameters<typeof connectGpu>[1]>;

export function connectVirgl(options: ConnectOptions = {}): ConnectOptions {
  return { bits: [spec.VIRTIO_GPU_F_EDID, spec.VIRTIO_GPU_F_VIRGL], ...options };
}

export class VirglDriver extends GpuDriver {
  postSubmit(context: number, commands: Buffer, fenceId?: bigint): Posted {
    const body = Buffer.concat([words(commands.length, 0), commands]);
    return this.post(spec.VIRTIO_GPU_CMD_SUBMIT_3D, body, spec.GPU_HEADER_SIZE, fenceId, context);
  }

  submit(context: number, commands: Buffer, fenceId?: bigint): Promise<Answer> {
    return this.answered(this.postSubmit(context, commands, fenceId));
  }

  /** The response's type. */
  async tell3d(type: number, context: number, ...numbers: readonly (number | bigint)[]): Promise<number> {
    const posted = this.post(type, words(...numbers), spec.GPU_HEADER_SIZE, undefined, context);
    return (await this.answered(posted)).type;
  }

  createContext(context: number): Promise<number> {
    const name = Array.from({ length: spec.GPU_CONTEXT_NAME_MAX / 4 }, () => 0x74736574);
    return this.tell3d(spec.VIRTIO_GPU_CMD_CTX_CREATE, context, 4, 0, ...name);
  }

  /** `args`: 11 words, of which the resource is the first. */
  create3d(args: readonly number[]): Promise<number> {
    return this.tell3d(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, 0, ...args, 0);
  }

  attachTo(context: number, resource: number): Promise<number> {
    return this.tell3d(spec.VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, context, resource, 0);
  }

  transfer3d(type: number, resource: number, { x, y, width, height }: Area, context = 1): Promise<number> {
    const box = [x, y, 0, width, height, 1];
    return this.tell3d(type, context, ...box, 0n, resource, 0, 0, 0);
  }
}
