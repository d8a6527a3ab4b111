"""Show an image as a viewer shows it: upright, in sRGB, on white."""

from __future__ import annotations

import io

from PIL import ExifTags, Image, ImageCms

STRIP = 1 << 18  # Pixels that are worked on at a time.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, of which viewers make nothing
        return 1
    return found if found in TURNS else 1


def upright(image: Image.Image, turned: int) -> Image.Image:
    """Undo the turn that an EXIF orientation names."""
    return image.transpose(TURNS[turned]) if turned in TURNS else image


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert the colours of an image from its ICC profile to sRGB, with the profile's perceptual intent.

    An image without a profile, with sRGB, or with a profile that is damaged or does not fit is taken as sRGB.
    """
    content = image.info.get("icc_profile")
    if not content:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and "sRGB" in (profile.profile.profile_description or ""):
            return image
        alpha = image.convert("RGBA").getchannel("A") if space != "CMYK" and image.has_transparency_data else None
        if space == "RGB":
            source = image if image.mode == "RGB" else image.convert("RGB")
        elif space == "GRAY" and image.mode in ("1", "L", "LA"):
            source = image.getchannel("L") if image.mode == "LA" else image.convert("L")
        elif space == "CMYK" and image.mode == "CMYK":
            source = image
        else:
            return image
        converted = ImageCms.profileToProfile(source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if converted is None:
        return image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def on_white(image: Image.Image) -> Image.Image:
    """Lay an image with transparency on white; any other stays as it is."""
    if not image.has_transparency_data:
        return image
    result = Image.new("RGB", image.size)
    # A few rows at a time: three copies of a large image would fill the memory.
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return result
