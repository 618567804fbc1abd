#version 330
// Places the displaced mesh, and finds each vertex in the baked textures.
// The body is also valid GLSL ES 3.00, so that the same shading can run in a browser.
in vec3 position;  // object space, cm
in vec2 uv;        // grid coordinates of the template within the baked region, [0, 1]
uniform mat4 object_to_clip;
out vec2 at;

void main() {
    gl_Position = object_to_clip * vec4(position, 1.0);
    at = uv;
}
