#version 330
// A ribbon of a few hairs that faces the camera; Marschner's two lobes in Kajiya and Kay's form, for each vertex.
#include light.glsl
uniform mat4 head, torso, projection;
in vec3 position;      // object space, cm
in vec3 tangent;
in vec3 light;
in float offset;       // signed half width, cm
in float across;       // -1 or 1, the ribbon's sides
in float tone;         // [0, 1], dark to light
in float rigid;
out vec3 v_color;
out vec2 v_across;     // -1 .. 1; a phase that differs between ribbons

float lobe(vec3 along, vec3 towards, vec3 view, float exponent) {
    float c = dot(along, normalize(towards + view));
    return pow(sqrt(max(1.0 - c * c, 0.0)), exponent);
}

void main() {
    vec4 p = mix(torso * vec4(position, 1.0), head * vec4(position, 1.0), rigid);
    vec3 along = normalize(mix(mat3(torso) * tangent, mat3(head) * tangent, rigid));
    vec3 view = normalize(-p.xyz);
    p.xyz += normalize(cross(along, view) + vec3(1e-5)) * offset;
    vec3 root = mix(vec3(0.030, 0.0135, 0.0065), vec3(0.150, 0.073, 0.034), tone);
    float key = sqrt(max(1.0 - pow(dot(along, KEY_TOWARDS), 2.0), 0.0)), fill = sqrt(max(1.0 - pow(dot(along, FILL_TOWARDS), 2.0), 0.0));
    vec3 lit = root * (KEY_COLOR * key * light.x * 0.62 + FILL_COLOR * fill * light.y * 0.62 + vec3(0.52, 0.54, 0.58) * light.z);
    float jitter = (tone - 0.5) * 0.12;
    vec3 shifted = normalize(along + view * (0.10 + jitter)), back = normalize(along - view * (0.16 + jitter));
    lit += KEY_COLOR * light.x * (0.040 * lobe(shifted, KEY_TOWARDS, view, 70.0) + root * 1.3 * lobe(back, KEY_TOWARDS, view, 18.0));
    lit += FILL_COLOR * light.y * (0.025 * lobe(shifted, FILL_TOWARDS, view, 60.0) + root * 0.8 * lobe(back, FILL_TOWARDS, view, 18.0));
    lit += RIM_COLOR * light.z * light.z * root * 1.6 * lobe(along, RIM_TOWARDS, view, 6.0);
    v_color = encode(lit);
    v_across = vec2(across, tone * 57.0);
    gl_Position = projection * p;
}
