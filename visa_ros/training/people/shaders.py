"""The studio's OpenGL programs: one vertex shader, three fragment shaders."""

VERTEX = """
in vec3 position; in vec3 normal; in vec2 uv; in float label; in float open;
uniform mat4 clip; uniform float lift_m; uniform vec3 ambient[9];
out vec3 v_position; out vec3 v_normal; out vec2 v_uv; out float v_open; flat out float v_label;
out vec3 v_even; out vec3 v_odd;
void main() {
    v_position = position; v_normal = normal; v_uv = uv; v_open = open; v_label = label;
    // The environment's light; its odd part changes its sign where the back is seen.
    vec3 n = normal;
    v_odd = open * (ambient[1] * n.x + ambient[2] * n.y + ambient[3] * n.z);
    v_even = open * (ambient[0] + ambient[4] * n.x * n.y + ambient[5] * n.y * n.z
        + ambient[6] * n.x * n.z + ambient[7] * (n.x * n.x - n.y * n.y)
        + ambient[8] * (3.0 * n.z * n.z - 1.0));
    gl_Position = clip * vec4(position * (1.0 - lift_m / position.z), 1);
}
"""

FRAGMENT = """
in vec3 v_position; in vec3 v_normal; in vec2 v_uv; in float v_open; flat in float v_label;
uniform sampler2D albedo; uniform vec2 alpha_range;
vec4 texel() {
    vec4 color = texture(albedo, v_uv);
    if (TRANSPARENT && (color.a < alpha_range.x || color.a >= alpha_range.y)) discard;
    if (!TRANSPARENT) color.a = 1.0;
    return color;
}
float side() {
    return dot(v_normal, v_position) > 0.0 ? -1.0 : 1.0;
}
"""

# Lambert with a terminator that is softened per channel ("wrapped": light scatters in skin and
# hair), Blinn-Phong with Schlick's Fresnel term, all in linear light (squared in place of
# sRGB's curve: it is quicker by far); shadows by percentage
# closer filtering (Reeves et al. 1987) on a Vogel disk.
PICTURE = """
uniform mat3 tint; uniform vec3 tint_offset;
in vec3 v_even; in vec3 v_odd;
uniform vec3 key_direction; uniform vec3 key_color; uniform vec3 wrap;
uniform float gloss; uniform float specular;
uniform mat4 shadow_clip; uniform sampler2DShadow shadow; uniform float softness;
out vec4 rgba;
const vec2 disk[4] = vec2[4](vec2(0.354, 0.000), vec2(-0.452, 0.414),
    vec2(0.069, -0.788), vec2(0.569, 0.742));
float unshadowed(vec3 n) {
    vec3 at = (shadow_clip * vec4(v_position + 0.004 * n, 1)).xyz * 0.5 + 0.5;
    float turn = 6.28 * fract(52.98 * fract(dot(gl_FragCoord.xy, vec2(0.0671, 0.00584))));
    mat2 spin = softness * mat2(cos(turn), sin(turn), -sin(turn), cos(turn));
    float sum = 0.0;
    for (int i = 0; i < 4; ++i)
        sum += texture(shadow, at + vec3(spin * disk[i], -0.002));
    return sum / 4.0;
}
void main() {
    vec4 color = texel();
    color.rgb = clamp(tint * color.rgb + tint_offset, 0.0, 1.0);
    vec3 n = side() * normalize(v_normal), view = normalize(-v_position);
    vec3 base = color.rgb * color.rgb, around = max(v_even + side() * v_odd, 0.0);
    float cosine = dot(n, key_direction);
    vec3 lit = max((vec3(cosine) + wrap) / (1.0 + wrap), 0.0);
    vec3 middle = normalize(key_direction + view);
    float grazing = 1.0 - max(dot(view, middle), 0.0), twice = grazing * grazing;
    float shine = specular * (0.04 + 0.96 * twice * twice * grazing) * (gloss + 8.0) / 8.0
        * pow(max(dot(n, middle), 0.0), gloss) * max(cosine, 0.0);
    vec3 key = key_color * (cosine > -max(wrap.r, 0.01) ? unshadowed(n) : 0.0);
    vec3 light = base * (around + key * lit * sqrt(v_open)) + key * shine;
    light = min(light, 0.8) + max(light - 0.8, 0.0) / (1.0 + 2.0 * max(light - 0.8, 0.0));
    rgba = vec4(sqrt(min(light, 1.0)) * color.a, color.a);
}
"""

SURFACE = """
layout(location=0) out vec4 surface; layout(location=1) out float label;
void main() {
    texel();
    surface = vec4(side() * normalize(v_normal), v_position.z);
    label = v_label / 255.0;
}
"""

DEPTH = 'void main() { texel(); }'
