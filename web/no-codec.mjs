/** In place of the decompressors that NiiVue has for zarr stores, which this page never reads: 1.4 MB, and WebAssembly. */
export default class NoCodec {
  static fromConfig() {
    throw new Error("this page reads no zarr stores");
  }
}
