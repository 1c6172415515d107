// Screens of guests as pictures for whoever asks. Described in schema/control.openapi.json.
import type { Device, Screen } from "../devices/device.ts";
import { type Answer, RequestError } from "./http-server.ts";

export interface ListedScreen {
  name: string;
  width: number;
  height: number;
}

export class Screens {
  /** A picture takes memory until its reader has it: there is one at a time. */
  private isBusy = false;

  constructor(private readonly device: Pick<Device, "screens">) {}

  list(): { screens: ListedScreen[] } {
    return { screens: [...this.all].map(([name, { width, height }]) => ({ name, width, height })) };
  }

  /** `name`: as it stands in a path. */
  async picture(name: string): Promise<Answer> {
    const screen = this.all.get(name);
    if (screen === undefined) throw new RequestError(404, this.isNotThere(name));
    if (this.isBusy) throw new RequestError(503, "another picture is being made: ask again");
    this.isBusy = true;
    try {
      const { pngOf } = await import("./png.ts");
      return { status: 200, contentType: "image/png", body: await pngOf(screen) };
    } finally {
      this.isBusy = false;
    }
  }

  private get all(): ReadonlyMap<string, Screen> {
    return this.device.screens ?? new Map();
  }

  private isNotThere(name: string): string {
    const names = [...this.all.keys()].join(", ");
    const has = names === "" ? "the guest shows nothing" : `those that show something are ${names}`;
    return `there is no screen ${JSON.stringify(name)}: ${has}`;
  }
}
