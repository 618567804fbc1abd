#version 330
// Depth from one direction, for baking how much light reaches each vertex.
uniform mat4 view;
in vec3 position;

void main() {
    gl_Position = view * vec4(position, 1.0);
}
