/** The open case's modalities, each fetched and decoded once. */

import { NVImage } from "@niivue/niivue";
import type { Api } from "./api";
import type { Description } from "./types";

export class Images {
  private readonly decoded = new Map<string, Promise<NVImage>>();

  constructor(
    private readonly api: Api,
    private readonly description: Description,
  ) {}

  /** The modality, from memory if it has been asked for before. */
  get(modality: string): Promise<NVImage> {
    let image = this.decoded.get(modality);
    if (!image) {
      image = this.fetch(modality);
      image.catch(() => this.decoded.delete(modality)); // to be asked for anew when the server is back
      this.decoded.set(modality, image);
    }
    return image;
  }

  /** Fetches the modalities that are not there yet, one after the other. */
  async getAll(): Promise<void> {
    for (const modality of this.description.modalities) {
      await this.get(modality);
    }
  }

  private async fetch(modality: string): Promise<NVImage> {
    const file = new File([await this.api.image(this.description.id, modality)], `${modality}.nii`);
    const [low, high] = this.description.window[modality]!;
    return NVImage.loadFromFile({ file, name: `${modality}.nii`, colormap: "gray", cal_min: low, cal_max: high });
  }
}
