#version 330
// The finished frame as it is: sRGB in, sRGB out.
uniform sampler2D picture;
in vec2 uv;
out vec4 color;
void main() {
    color = vec4(texture(picture, uv).rgb, 1.0);
}
