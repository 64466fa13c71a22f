// The search runs in a worker, and browsers start none from file://. There its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const scope = frame.contentWindow;
      // the script answers by postMessage, and waits for messages; those before it is there are kept
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = scope.document.createElement("script");
      script.src = url;
      const loaded = new Promise((done) => (script.onload = done));
      scope.document.body.append(script);
      this.postMessage = (data) =>
        loaded.then(() => scope.dispatchEvent(new scope.MessageEvent("message", { data })));
      this.terminate = () => frame.remove();
    }
  };
}
