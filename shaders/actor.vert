#version 330
// Places a vertex with the head or the torso, and hands its neutral position and baked light on.
uniform mat4 head, torso, projection;
in vec3 position;   // object space, cm, displaced
in vec3 normal;
in vec3 rest;       // object space, cm, neutral
in vec2 uv;
in vec3 light;
in float rigid;     // 1 moves with the head, 0 stays with the torso
out vec3 v_normal, v_rest, v_object;
out vec4 v_light;   // baked light; how far inside the mouth
out vec2 v_uv;
uniform vec3 lips;  // object space: y of the upper lip's inner rim, z of the lips, opening of the mouth (cm)

void main() {
    vec4 p = mix(torso * vec4(position, 1.0), head * vec4(position, 1.0), rigid);
    v_normal = mix(mat3(torso) * normal, mat3(head) * normal, rigid);
    v_rest = rest;
    v_object = position;
    bool lining = abs(rest.x) < 3.9 && rest.y < 1.0 && rest.y > -6.5 && rest.z > 0.0;
    v_light = vec4(light, lining ? smoothstep(0.5, 2.4, lips.y - position.z) : 0.0);
    v_uv = uv;
    gl_Position = projection * p;
}
