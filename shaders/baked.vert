#version 330
// Places the displaced mesh, and finds each vertex in the baked textures.
// The body is also valid GLSL ES 3.00, so that the same shading can run in a browser.
in vec3 position;  // object space, cm
in vec2 uv;        // grid coordinates of the template within the baked region, [0, 1]
uniform mat4 object_to_clip;
uniform vec2 mean_size;    // texels
uniform vec2 change_size;
out vec2 at_mean;
out vec2 at_change;

// Texture coordinates whose ends are the centres of the first and the last texel: those lie on grid vertices.
vec2 centred(vec2 uv, vec2 size) {
    return (uv * (size - 1.0) + 0.5) / size;
}

void main() {
    gl_Position = object_to_clip * vec4(position, 1.0);
    at_mean = centred(uv, mean_size);
    at_change = centred(uv, change_size);
}
