// A video's or a camera's frames: shown as they come, detected on as fast as the server can.

const IN_FLIGHT = 3; // requests: enough to keep the server busy while others travel
const LONGEST = 1280; // pixels of a side of a frame that is sent

export class Live {
  // `detect` gives a promise of a blob's detections, `show` draws (video, detections).
  constructor(video, detect, show, complain) {
    Object.assign(this, { video, detect, show, complain });
    this.found = [];
    this.sent = 0;
    this.shown = 0;
    this.flying = 0;
    this.ended = false;
    this.next();
  }

  // Waits for the next frame of the video, or, where a browser cannot tell, of the screen.
  next() {
    const step = () => this.step();
    if (this.video.requestVideoFrameCallback) {
      this.video.requestVideoFrameCallback(step);
    } else {
      requestAnimationFrame(step);
    }
  }

  step() {
    if (this.ended) {
      return;
    }
    this.redraw();
    if (this.flying < IN_FLIGHT) {
      this.send();
    }
    this.next();
  }

  redraw() {
    if (this.video.videoWidth) {
      this.show(this.video, this.found);
    }
  }

  async send() {
    this.flying += 1;
    this.sent += 1;
    const number = this.sent;
    try {
      const [blob, scale] = await this.capture("image/jpeg", LONGEST);
      const found = await this.detect(blob);
      if (number > this.shown && !this.ended) { // answers may overtake each other
        this.shown = number;
        this.found = found.map((each) => ({ ...each, box: each.box.map((v) => v / scale) }));
        this.redraw();
      }
    } catch (error) {
      this.complain(error);
    } finally {
      this.flying -= 1;
    }
  }

  // The frame as a picture's file, and by how much it is smaller.
  capture(type, longest) {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, longest / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => {
        if (blob) {
          resolve([blob, canvas.width / width]);
        } else {
          reject(new Error("The frame cannot be read."));
        }
      }, type, 0.92);
    });
  }

  end() {
    this.ended = true;
    this.video.pause();
    for (const track of this.video.srcObject?.getTracks() ?? []) {
      track.stop();
    }
    if (this.video.src) {
      URL.revokeObjectURL(this.video.src);
    }
  }
}
