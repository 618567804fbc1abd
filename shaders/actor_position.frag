#version 330
// Where in object space the skin is, neutral and displaced; alpha is coverage.
in vec3 v_normal, v_rest, v_object;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 neutral;
layout(location = 1) out vec4 displaced;

void main() {
    neutral = vec4(v_rest, 1.0);
    displaced = vec4(v_object, 1.0);
}
