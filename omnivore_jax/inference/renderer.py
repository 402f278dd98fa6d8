"""Pictures with depth of a mesh or a point cloud: trimesh reads it, VTK draws it, without a screen.

The only importer of the two. It is run in a process of its own (scenes.py), since VTK ends the
process that it is in where OpenGL does not work.
"""

# pyright: reportMissingImports=false
# its libraries are an extra that need not be there

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8

Up = Literal["y", "z"]

BACKGROUND = (124, 116, 104)
"""ImageNet's mean, as beside pictures that are smaller than a crop."""
ELEVATION = 30.0
"""Degrees of the cameras above the middle, as MVCNN has them (Su et al., ICCV 2015)."""
OVERLAP = 3.0
"""Of the points of a cloud: that much more area than a ball has, so that 95 % of it are covered."""
MAX_POINT = 32.0
"""Pixels of a point of a cloud at most."""
MAX_RADIUS = 1e15
"""Of a scene; the depth buffer holds no more."""
PLAIN = (200, 200, 200)
"""Colour of what has none."""


class Shot(NamedTuple):
    """How a scene is photographed."""

    cameras: int
    """On a ring around the middle of the scene, at equal angles, looking at it."""
    up: Up
    side: int
    """Rows and columns of a picture."""
    fx: float
    """Focal length in pixels."""
    unit: float
    """Metres in one unit of the file."""


class Photographs(NamedTuple):
    """What the cameras saw."""

    rgb: UInt8[np.ndarray, "n h w 3"]
    depth: Float32[np.ndarray, "n h w"]
    """Metres along the axis of the camera; infinite where there is nothing."""


def photograph(path: str, form: str, shot: Shot) -> Photographs:
    """Reads a file and draws it from all sides.

    The light comes from the camera; colours and textures are those of the file, points are squares
    of a size that closes a cloud of even density.

    Raises:
        ValueError: the file is damaged, or shows nothing.

    """
    parts = _read(path, form)
    corners = np.concatenate([part.bounds for part in parts])
    middle = (corners.min(0) + corners.max(0)) / 2
    radius = float(max(np.linalg.norm(part.vertices - middle, axis=1).max() for part in parts))
    if not 0 < radius < MAX_RADIUS:
        raise ValueError(f"it is {2 * radius:g} units large, so there is nothing to see")
    window, renderer = _stage(shot.side)
    nearest = distance_of(radius, shot) - radius
    for part in parts:
        renderer.AddActor(_actor(part, shot.fx * radius / nearest))
    shots = [
        _look(window, renderer, direction, (middle, radius, shot))
        for direction in directions(shot.cameras, shot.up)
    ]
    window.Finalize()
    rgb, depth = zip(*shots, strict=True)
    return Photographs(np.stack(rgb), np.stack(depth))


def directions(cameras: int, up: Up) -> Float64[np.ndarray, "n 3"]:
    """Points from the middle of the scene to every camera, of length 1."""
    turn = 2 * np.pi * np.arange(cameras) / cameras
    tilt = math.radians(ELEVATION)
    ahead, aside = np.cos(turn) * math.cos(tilt), np.sin(turn) * math.cos(tilt)
    above = np.full(cameras, math.sin(tilt))
    # both systems are right-handed; the first camera of y looks along -z, as glTF's viewers do
    columns = (aside, above, ahead) if up == "y" else (ahead, aside, above)
    return np.stack(columns, axis=1)


def distance_of(radius: float, shot: Shot) -> float:
    """Says how far the cameras are, so that a ball around the scene fits in the picture."""
    return radius / math.sin(math.atan(shot.side / 2 / shot.fx))


def _stage(side: int) -> tuple[Any, Any]:
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  what draws
    from vtkmodules.vtkCommonCore import vtkLogger
    from vtkmodules.vtkRenderingCore import vtkLight, vtkRenderer, vtkRenderWindow

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)  # of screens that it looks for
    window, renderer, light = vtkRenderWindow(), vtkRenderer(), vtkLight()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # colours of one surface each, as their depth is
    window.SetSize(side, side)
    window.AddRenderer(renderer)
    renderer.SetBackground(*(value / 255 for value in BACKGROUND))
    light.SetLightTypeToHeadlight()
    renderer.AddLight(light)
    renderer.AutomaticLightCreationOff()
    return window, renderer


def _look(
    window: Any, renderer: Any, direction: np.ndarray, what: tuple[np.ndarray, float, Shot]
) -> tuple[UInt8[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Takes one picture and the depth of its pixels."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkFloatArray, vtkUnsignedCharArray
    from vtkmodules.vtkRenderingCore import vtkCamera

    middle, radius, shot = what
    distance = distance_of(radius, shot)
    near, far = distance - 1.01 * radius, distance + 1.01 * radius
    camera = vtkCamera()
    camera.SetFocalPoint(*middle)
    camera.SetPosition(*(middle + distance * direction))
    camera.SetViewUp(*((0, 1, 0) if shot.up == "y" else (0, 0, 1)))
    camera.SetViewAngle(math.degrees(2 * math.atan(shot.side / 2 / shot.fx)))
    camera.SetClippingRange(near, far)
    renderer.SetActiveCamera(camera)
    window.Render()
    last, colours, buffer = shot.side - 1, vtkUnsignedCharArray(), vtkFloatArray()
    window.GetPixelData(0, 0, last, last, 0, colours, 0)
    window.GetZbufferData(0, 0, last, last, buffer)
    rgb = vtk_to_numpy(colours).reshape(shot.side, shot.side, 3)[::-1]
    z = vtk_to_numpy(buffer).reshape(shot.side, shot.side)[::-1].astype(np.float64)
    # the buffer holds 0 at the near and 1 at the far plane, and runs with 1 / depth
    depth = np.where(z < 1, shot.unit * near * far / (far - z * (far - near)), np.inf)
    return rgb.copy(), depth.astype(np.float32)


def _read(path: str, form: str) -> list[Any]:
    """Reads meshes and clouds, each where the file puts it.

    Raises:
        ValueError: the file is damaged, or holds neither.

    """
    import trimesh

    try:
        loaded = trimesh.load_scene(path, file_type=form).dump(concatenate=False)
    except Exception as error:  # its readers raise whatever a wrong byte leads to
        words = " ".join(str(error).split())
        raise ValueError(f"it is damaged ({type(error).__name__}: {words})") from error
    kinds = (trimesh.Trimesh, trimesh.PointCloud)
    parts = [part for part in loaded if isinstance(part, kinds) and len(part.vertices)]
    parts = [part if hasattr(part, "faces") else _seen(part) for part in parts]
    parts = [part for part in parts if len(part.faces if hasattr(part, "faces") else part.vertices)]
    if not parts:
        raise ValueError("it holds neither faces nor points")
    return parts


def _seen(cloud: Any) -> Any:
    """Leaves out the points that are no numbers, which is where a scanner saw nothing."""
    good = np.isfinite(cloud.vertices).all(1)
    colours = cloud.colors if len(cloud.colors) == len(good) else None
    return type(cloud)(cloud.vertices[good], None if colours is None else colours[good])


def _actor(part: Any, large: float) -> Any:
    """Makes of a mesh or cloud what VTK draws.

    `large`: pixels of the radius of the scene where it is nearest.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    points, data, mapper, actor = vtkPoints(), vtkPolyData(), vtkPolyDataMapper(), vtkActor()
    points.SetData(numpy_to_vtk(np.array(part.vertices, np.float64), deep=True))
    data.SetPoints(points)
    mapper.SetInputData(data)
    actor.SetMapper(mapper)
    if hasattr(part, "faces"):
        data.SetPolys(_cells(part.faces))
        _paint(data, part.visual, actor)
    else:
        data.SetVerts(_cells(np.arange(len(part.vertices))[:, None]))
        _colour(data, part.colors)
        area = OVERLAP * 4 * math.pi * large**2 / len(part.vertices)
        actor.GetProperty().SetPointSize(min(max(math.sqrt(area), 1.0), MAX_POINT))
        actor.GetProperty().LightingOff()  # points have no side to be lit
    return actor


def _cells(corners: Shaped[np.ndarray, "n corners"]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray

    cells, (count, each) = vtkCellArray(), corners.shape
    flat = np.concatenate([np.full((count, 1), each), corners], axis=1).astype(np.int64).ravel()
    cells.SetCells(count, numpy_to_vtkIdTypeArray(flat, deep=True))
    return cells


def _paint(data: Any, visual: Any, actor: Any) -> None:
    """Gives faces their texture, their own colours, or those of their corners."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    material = getattr(visual, "material", None)
    if material is None:
        _colour(data, visual.vertex_colors if visual.defined else None)
        return
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is None or getattr(visual, "uv", None) is None:
        actor.GetProperty().SetColor(*(value / 255 for value in material.main_color[:3]))
        return
    data.GetPointData().SetTCoords(numpy_to_vtk(np.array(visual.uv, np.float32), deep=True))
    actor.SetTexture(_texture(np.asarray(picture.convert("RGB"))))


def _texture(picture: UInt8[np.ndarray, "h w 3"]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkRenderingCore import vtkTexture

    image, texture, (rows, columns, _) = vtkImageData(), vtkTexture(), picture.shape
    image.SetDimensions(columns, rows, 1)
    flat = picture[::-1].reshape(-1, 3)  # its first row is the lowest one
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(flat), deep=True))
    texture.SetInputDataObject(image)
    texture.InterpolateOn()
    texture.RepeatOn()
    return texture


def _colour(data: Any, colours: Any) -> None:
    """Colours points, or all alike where they have no colours of their own."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    count = data.GetNumberOfPoints()
    if colours is None or np.shape(colours)[:1] != (count,):
        colours = np.tile(np.array(PLAIN, np.uint8), (count, 1))
    rgb = np.ascontiguousarray(np.asarray(colours, np.uint8)[:, :3])
    data.GetPointData().SetScalars(numpy_to_vtk(rgb, deep=True))
