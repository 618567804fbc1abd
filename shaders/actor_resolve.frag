#version 330
// Averages 2 x 2 samples of the actor over the backdrop.
uniform sampler2D actor, backdrop;
in vec2 v_uv;
layout(location = 0) out vec4 color;

void main() {
    vec4 drawn = texture(actor, v_uv);
    color = vec4(drawn.rgb + (1.0 - drawn.a) * texture(backdrop, v_uv).rgb, 1.0);
}
