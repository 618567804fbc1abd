// Injected into the page before its own scripts: a row for every frame that its video shows.
//
// Times are milliseconds of performance.now(). `shownFrames.splice(0)` gives the rows that came since it was last called:
// when the frame was shown, when the last packet of it had come, its RTP time stamp, frames shown so far.
globalThis.shownFrames = [];
document.addEventListener("DOMContentLoaded", () => {
  const video = document.querySelector("#video");
  const note = (_, { presentationTime, receiveTime, rtpTimestamp, presentedFrames }) => {
    shownFrames.push([presentationTime, receiveTime ?? presentationTime, rtpTimestamp ?? 0, presentedFrames]);
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
});
