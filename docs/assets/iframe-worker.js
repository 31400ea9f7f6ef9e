/* Search without a server: browsers start no worker from a file, so that what
   it would run is run in a hidden frame. Pages of a server are left alone. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inside = frame.contentWindow;
      this.inside = inside;
      // What the worker sends, as an event of this object.
      const send = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      inside.document.open();
      inside.document.write("<!doctype html><body></body>");
      inside.document.close();
      inside.postMessage = (data) => setTimeout(send, 0, data);
      this.ready = new Promise((resolve, reject) => {
        inside.importScripts = (...urls) =>
          urls.reduce(
            (before, one) => before.then(() => this.load(one)),
            Promise.resolve(),
          );
        this.load(url).then(resolve, reject);
      });
    }

    load(url) {
      return new Promise((resolve, reject) => {
        const script = this.inside.document.createElement("script");
        script.src = new URL(url, location.href).href;
        script.onload = resolve;
        script.onerror = reject;
        this.inside.document.body.appendChild(script);
      });
    }

    postMessage(data) {
      this.ready.then(() =>
        this.inside.dispatchEvent(
          new this.inside.MessageEvent("message", { data }),
        ),
      );
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
