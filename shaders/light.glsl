// Soft studio lights in camera space, shared by everything drawn of the actor. Linear light in, sRGB-encoded out.
// `light` is baked for each vertex at the neutral face: how much of key, fill and surroundings reaches it, each in [0, 1].
const vec3 KEY_TOWARDS = vec3(-0.43, 0.45, 0.78), KEY_COLOR = vec3(1.08, 1.00, 0.92) * 1.95;
const vec3 FILL_TOWARDS = vec3(0.70, 0.12, 0.70), FILL_COLOR = vec3(0.86, 0.93, 1.05) * 0.60;
const vec3 RIM_TOWARDS = vec3(0.62, 0.50, -0.60), RIM_COLOR = vec3(1.00, 0.95, 0.88) * 0.9;

vec3 wrapped(float cosine, vec3 wrap) {
    return max((vec3(cosine) + wrap) / (1.0 + wrap), 0.0);
}

// Light that a matt surface sends out for albedo 1; `wrap` softens the terminator (light scattered below the surface).
vec3 diffuse(vec3 normal, vec3 light, vec3 wrap) {
    vec3 sky = mix(vec3(0.25, 0.21, 0.20), vec3(0.44, 0.46, 0.50), 0.5 + 0.5 * normal.y);
    return KEY_COLOR * wrapped(dot(normal, KEY_TOWARDS), wrap) * light.x
        + FILL_COLOR * wrapped(dot(normal, FILL_TOWARDS), wrap) * light.y
        + RIM_COLOR * wrapped(dot(normal, RIM_TOWARDS), wrap * 0.5) * light.z * 0.5
        + sky * light.z;
}

// Blinn-Phong with Schlick's Fresnel, normalised roughly so that `strength` is independent of the exponent.
vec3 glints(vec3 normal, vec3 view, vec3 light, float strength, float exponent) {
    vec3 h1 = normalize(KEY_TOWARDS + view), h2 = normalize(FILL_TOWARDS + view);
    float grazing = 1.0 - max(dot(normal, view), 0.0), squared = grazing * grazing;
    float fresnel = 0.04 + 0.96 * squared * squared * grazing;
    float gain = strength * (exponent + 8.0) * 0.04 * (0.75 + 2.0 * fresnel);
    return gain * (KEY_COLOR * light.x * pow(max(dot(normal, h1), 0.0), exponent)
        + FILL_COLOR * light.y * pow(max(dot(normal, h2), 0.0), exponent));
}

vec3 encode(vec3 linear) {
    vec3 x = linear * 0.74;
    x = x * (1.0 + x * 0.10) / (1.0 + x * 0.42);   // a gentle shoulder instead of clipped highlights
    vec3 a = sqrt(max(x, 0.0)), b = sqrt(a), c = sqrt(b);
    return 0.662002687 * a + 0.684122060 * b - 0.323583601 * c - 0.0225411470 * x;   // sRGB to 0.001, without powers
}
