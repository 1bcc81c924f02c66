// Browsers run no worker of a page that is opened from a folder; a hidden frame in the worker's place lets the search work there.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = (this.inside = frame.contentWindow)
      this.ready = new Promise((resolve, reject) => {
        // the worker posts to this page, and may load scripts
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
        inside.importScripts = (...scripts) => scripts.reduce((before, next) => before.then(() => load(next)), Promise.resolve())
        const load = source =>
          new Promise((loaded, failed) => {
            const script = inside.document.createElement("script")
            Object.assign(script, { src: source, onload: loaded, onerror: failed })
            inside.document.body.append(script)
          })
        load(new URL(address, location.href).href).then(resolve, reject)
      })
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {
      this.inside.frameElement.remove()
    }
  }
