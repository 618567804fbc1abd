#version 330
// The mesh in clip space, with one value for each vertex to be interpolated over its triangles.
in vec3 position;  // object space, cm
in vec3 value;
uniform mat4 object_to_clip;
out vec3 interpolated;

void main() {
    gl_Position = object_to_clip * vec4(position, 1.0);
    interpolated = value;
}
