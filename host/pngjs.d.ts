// The part of pngjs that vringd and its tests use.
declare module "pngjs" {
  import { EventEmitter } from "node:events";

  interface Options {
    width?: number;
    height?: number;
    /** 2: red, green and blue; 6: alpha, too. */
    colorType?: number;
    inputColorType?: number;
    inputHasAlpha?: boolean;
    filterType?: number;
    deflateLevel?: number;
  }
  export class PNG extends EventEmitter {
    constructor(options: Options);
    static readonly sync: { read(bytes: Buffer): { width: number; height: number; data: Buffer } };
    data: Buffer;
    /** Emits "data" with the file's parts, and then "end". */
    pack(): this;
  }
}
