// Unit vector from the fragment to the camera, in camera space, from where it lies in the frame.
uniform vec3 eye_ray;   // half the drawn frame's extent, focal length; in drawn pixels

vec3 towards_camera() {
    return normalize(vec3(eye_ray.xy - gl_FragCoord.xy, eye_ray.z));
}
