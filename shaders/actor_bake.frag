#version 330
// What the skin looks like at each point of the neutral face, evaluated once: albedo, gloss, relief.
#define LIP_POINTS 48
uniform vec2 lip_outline[LIP_POINTS];   // x, y of the neutral outer lip line, cm
uniform vec3 lid_left[9], lid_right[9]; // upper lid's rim, from the nose outwards
uniform vec3 low_left[9], low_right[9]; // lower lid's rim
uniform vec3 nose, mouth, chin, cheek;  // landmarks of the neutral face, cm; cheek is the left one
uniform vec4 head_frame;                // skull centre y, z; brow y; half width (cm)
uniform float socket;                   // 1 where the part is the mouth's or the eyes' lining
in vec3 v_rest;
in float v_scalp;
layout(location = 0) out vec4 albedo_gloss;
layout(location = 1) out vec4 relief_lip;

float hash(vec3 p) {
    p = fract(p * 0.3183099 + vec3(0.71, 0.113, 0.419));
    p *= 17.0;
    return fract(p.x * p.y * p.z * (p.x + p.y + p.z));
}

float noise(vec3 p) {
    vec3 i = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    return mix(mix(mix(hash(i), hash(i + vec3(1, 0, 0)), f.x), mix(hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)), f.x), f.y),
        mix(mix(hash(i + vec3(0, 0, 1)), hash(i + vec3(1, 0, 1)), f.x), mix(hash(i + vec3(0, 1, 1)), hash(i + vec3(1, 1, 1)), f.x), f.y), f.z);
}

float fbm(vec3 p) {
    float sum = 0.0, amplitude = 0.5;
    for (int i = 0; i < 5; i++) {
        sum += amplitude * noise(p);
        p = p * 2.03 + 7.1;
        amplitude *= 0.5;
    }
    return sum;
}

float lip_distance(vec2 p) {    // signed distance to the lip outline, negative inside
    float d = 1e9, s = 1.0;
    for (int i = 0, j = LIP_POINTS - 1; i < LIP_POINTS; j = i, i++) {
        vec2 e = lip_outline[j] - lip_outline[i], w = p - lip_outline[i];
        vec2 b = w - e * clamp(dot(w, e) / dot(e, e), 0.0, 1.0);
        d = min(d, dot(b, b));
        bvec3 c = bvec3(p.y >= lip_outline[i].y, p.y < lip_outline[j].y, e.x * w.y > e.y * w.x);
        if (all(c) || all(not(c))) s = -s;
    }
    return s * sqrt(d);
}

float rim_distance(vec3 p, vec3 rim[9]) {
    float d = 1e9;
    for (int i = 0; i < 8; i++) {
        vec3 e = rim[i + 1] - rim[i];
        d = min(d, length(p - rim[i] - e * clamp(dot(p - rim[i], e) / dot(e, e), 0.0, 1.0)));
    }
    return d;
}

float pores(vec3 p) {
    return fbm(p * 9.0) * 0.7 + fbm(p * 24.0) * 0.55;
}

float lip_creases(vec3 p) {
    return fbm(vec3(p.x * 7.0 + 2.0 * sin(p.y * 1.3), p.y * 1.1, p.z * 1.1)) + 0.4 * fbm(p * 12.0);
}

void main() {
    vec3 p = v_rest;
    float front = smoothstep(3.0, 5.5, p.z);

    // Complexion: blotches of several sizes, a warmer band over cheeks and nose, thin skin around the eyes.
    vec3 albedo = vec3(0.665, 0.395, 0.285);
    albedo *= 0.95 + 0.10 * fbm(p * 1.7);
    albedo = mix(albedo, vec3(0.63, 0.315, 0.235), 0.32 * smoothstep(0.40, 0.70, fbm(p * 0.8 + 3.0)));
    albedo *= 0.965 + 0.07 * fbm(p * 6.0 + 11.0);
    vec2 at_cheek = (vec2(abs(p.x), p.y) - cheek.xy) * vec2(0.62, 0.80);
    albedo = mix(albedo, vec3(0.64, 0.27, 0.215), 0.36 * exp(-dot(at_cheek, at_cheek) / 1.7) * front);
    vec3 at_nose = p - nose;
    albedo = mix(albedo, vec3(0.62, 0.28, 0.22), 0.30 * exp(-dot(at_nose, at_nose) / 1.6));
    vec3 at_chin = p - chin;
    albedo = mix(albedo, vec3(0.63, 0.31, 0.24), 0.16 * exp(-dot(at_chin, at_chin) / 2.5));
    float ears = smoothstep(head_frame.w - 0.9, head_frame.w + 0.2, abs(p.x)) * step(-4.0, p.z) * smoothstep(-9.5, -7.5, p.y - head_frame.z);
    albedo = mix(albedo, vec3(0.64, 0.30, 0.235), 0.30 * ears);
    float freckle = smoothstep(0.66, 0.80, noise(p * 5.3)) * smoothstep(0.45, 0.65, noise(p * 0.9 + 5.0));
    albedo = mix(albedo, vec3(0.43, 0.215, 0.13), 0.22 * freckle * exp(-dot(at_cheek, at_cheek) / 5.0) * front);

    float upper = min(rim_distance(p, lid_left), rim_distance(p, lid_right));
    float lower = min(rim_distance(p, low_left), rim_distance(p, low_right));
    float lid = min(upper, lower);
    albedo = mix(albedo, vec3(0.54, 0.285, 0.215), 0.42 * smoothstep(1.2, 0.1, upper) * front);
    albedo = mix(albedo, vec3(0.60, 0.315, 0.245), 0.40 * smoothstep(1.0, 0.1, lower) * front);
    albedo = mix(albedo, vec3(0.050, 0.028, 0.022), 0.85 * smoothstep(0.135, 0.045, upper));
    albedo = mix(albedo, vec3(0.30, 0.13, 0.10), 0.50 * smoothstep(0.10, 0.03, lower));

    // Lips: a soft edge, creases along them, a little darker towards the line where they meet.
    float outline = lip_distance(p.xy) + 0.05 * (fbm(p * 5.0) - 0.5);
    float lip = smoothstep(0.07, -0.12, outline) * front * step(mouth.z - 3.2, p.z);
    float crease = lip > 0.0 ? lip_creases(p) : 0.0;
    vec3 rouge = vec3(0.420, 0.118, 0.115) * (0.86 + 0.30 * crease);
    rouge = mix(rouge, vec3(0.46, 0.145, 0.135), smoothstep(0.0, -0.9, p.y - mouth.y));
    albedo = mix(albedo, rouge, lip * 0.86);
    albedo *= 1.0 - 0.10 * exp(-abs(outline - 0.12) * 7.0) * (1.0 - lip) * front;

    // Scalp: roots darken the skin from the hairline on, in fine streaks.
    float streaks = fbm(vec3(p.x * 5.0, p.y * 5.0, p.z * 2.0)) * 0.6 + fbm(p * 14.0) * 0.4;
    float scalp = smoothstep(-0.03, 0.07, v_scalp + 0.10 * (streaks - 0.5)) * smoothstep(-6.0, -4.5, p.y - head_frame.z + 3.0);
    albedo = mix(albedo, vec3(0.055, 0.027, 0.014), 0.93 * scalp);
    albedo = mix(albedo, vec3(0.39, 0.14, 0.13), socket);

    float gloss = mix(0.17, 0.09, smoothstep(-1.0, 4.0, abs(p.x) - 1.5)) * (0.75 + 0.5 * fbm(p * 3.0));
    gloss = mix(gloss, 0.34, lip);
    gloss = mix(gloss, 0.25, smoothstep(0.12, 0.02, lower));
    albedo_gloss = vec4(sqrt(albedo), gloss * (1.0 - socket) * (1.0 - scalp));

    // Forward differences; the creases only where there are lips.
    float h = 0.03;
    vec3 dx = vec3(h, 0, 0), dy = vec3(0, h, 0), dz = vec3(0, 0, h);
    float here = pores(p);
    vec3 skin = vec3(pores(p + dx) - here, pores(p + dy) - here, pores(p + dz) - here) * 1.2;
    vec3 folds = vec3(0.0);
    if (lip > 0.0) folds = vec3(lip_creases(p + dx) - crease, lip_creases(p + dy) - crease, lip_creases(p + dz) - crease) * 2.8;
    vec3 gradient = mix(skin, folds, lip) * (1.0 - socket) * (1.0 - 0.7 * smoothstep(0.8, 0.1, lid));
    relief_lip = vec4(clamp(gradient * 0.5 + 0.5, 0.0, 1.0), mix(lip * 0.5, 1.0, socket));
}
